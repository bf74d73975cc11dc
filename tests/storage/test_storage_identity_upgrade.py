"""Databases from before spans were identified by their start keep their rows and ids, and take part as new ones."""

from __future__ import annotations

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text
from storage_cases import ROOT, at, quick_config
from trace_cases import TRACE, deliver, ident, names_of, run, run_of, step, usage_of

from otel_agent_telemetry.run_id import span_event_id_without_start
from otel_agent_telemetry.storage.deletions import delete_run
from otel_agent_telemetry.storage.engine import make_engine, reading, writing
from otel_agent_telemetry.storage.queries import get_run
from otel_agent_telemetry.storage.rollups import rollups_of
from otel_agent_telemetry.storage.schema import ensure_schema
from otel_agent_telemetry.storage.steps import events_of, spans_of
from otel_agent_telemetry.storage.store import WriteBatch

OLD = span_event_id_without_start(TRACE, f"{1:016x}")
RUN = "event_id, run_id, created_at, updated_at, start_time, agent_name, job_type, status, trace_id, span_id"
SPAN = "event_id, run_id, trace_id, span_id, parent_span_id, name, kind, status, start_time, is_run, usage_json"
EVENT = "event_id, run_id, event_type, timestamp, trace_id, span_id, seq"


class Upgraded:
    """A database of revision 0009 with a run, its steps and two orphans, after its upgrade."""

    def __init__(self, config):
        self.engine = make_engine(config)
        self._fill()
        self.report = ensure_schema(self.engine, config)

    def reading(self):
        return reading(self.engine, "reading")

    def writing(self):
        return writing(self.engine, "writing to")

    def _fill(self):
        settings = Config()
        settings.set_main_option("script_location", str(ROOT / "otel_agent_telemetry" / "storage" / "migrations"))
        settings.set_main_option("path_separator", "os")
        with writing(self.engine, "making an older schema in") as connection:
            settings.attributes["connection"] = connection
            command.upgrade(settings, "0009")

            def insert(table, names, *values):
                given = dict(zip(names.split(", "), values, strict=True))
                marks = ", ".join(f":{name}" for name in given)
                connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({marks})"), given)

            def span(number, parent, event_id, *, is_run=0):
                ids = (TRACE, f"{number:016x}", f"{parent:016x}")
                run_id = "run-1" if event_id else ""
                usage = '{"input_tokens":1,"steps":1}'
                insert(
                    "run_spans",
                    SPAN,
                    event_id,
                    run_id,
                    *ids,
                    f"span {number}",
                    "client",
                    "ok",
                    at(number),
                    is_run,
                    usage,
                )

            times = (at(1), at(2), at(1))
            insert("agent_runs", RUN, OLD, "run-1", *times, "agent", "job", "success", TRACE, f"{1:016x}")
            span(2, 1, OLD)
            insert("run_events", EVENT, OLD, "run-1", "e0", at(2), TRACE, f"{2:016x}", 0)
            span(5, 4, "")
            insert("run_events", EVENT, "", "", "e0", at(5), TRACE, f"{5:016x}", 0)
            span(6, 4, "", is_run=1)
            insert("run_rollups", "event_id, usage_json", OLD, '{"own":{},"steps":{"input_tokens":1,"steps":1}}')


@pytest.fixture(params=["sqlite", "postgresql"])
def upgraded(request, tmp_path):
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    made = Upgraded(quick_config(tmp_path, **({"database_url": url} if url else {})))
    yield made
    made.engine.dispose()


def test_rows_of_revision_9_keep_their_ids(upgraded):
    """Nothing is rewritten but the indexes."""
    assert upgraded.report.outcome == "upgraded"
    with upgraded.reading() as connection:
        assert get_run(connection, event_id=OLD).run_id == "run-1"
        assert [one.name for one in spans_of(connection, OLD)] == ["span 2"]
        assert [one.event_type for one in events_of(connection, OLD)] == ["e0"]
        assert [one.name for one in spans_of(connection, "")] == ["span 5", "span 6"]


def test_a_span_that_an_earlier_version_stored_is_not_stored_again(upgraded):
    """A sender that got no answer before the upgrade repeats its request after it."""
    deliver(upgraded, step(2, 1, tokens=1, count=1), step(5, 4, tokens=1, count=1))
    with upgraded.reading() as connection:
        assert len(spans_of(connection, OLD)) == len(events_of(connection, OLD)) == 1
        assert rollups_of(connection, [OLD])[OLD].steps == {"input_tokens": 1, "steps": 1}
        assert len(spans_of(connection, "")) == 2


def test_new_spans_find_a_run_of_an_earlier_version(upgraded):
    """By trace and span id: their parent's start is known to the microsecond only.

    Both are model calls, one inside the other: they count as one, with the tokens of the inner.
    """
    deliver(upgraded, step(3, 2, tokens=7))
    with upgraded.reading() as connection:
        assert [one.name for one in spans_of(connection, OLD)] == ["span 2", "span 3"]
        assert rollups_of(connection, [OLD])[OLD].steps == {"input_tokens": 7, "steps": 2}


def test_orphans_of_an_earlier_version_find_their_run(upgraded):
    """With their events; a run among them gets its parent under the id that it had."""
    deliver(upgraded, run(4))
    assert names_of(upgraded, 4) == ["span 5", "span 6"]
    assert usage_of(upgraded, 4) == {"input_tokens": 1, "steps": 1}
    inner = span_event_id_without_start(TRACE, f"{6:016x}")
    with upgraded.reading() as connection:
        assert [one.run_id for one in events_of(connection, ident(4))] == ["run-4"]
        assert rollups_of(connection, [inner])[inner].parent_run_id == "run-4"


def test_a_run_of_another_time_takes_no_steps_of_the_one_before(upgraded):
    """Seeded before and after the upgrade."""
    deliver(upgraded, WriteBatch((run_of(1, start=100),)), step(2, 1, tokens=3, start=101))
    assert names_of(upgraded, 1, 100) == ["span 2"]
    with upgraded.reading() as connection:
        assert [one.start_time for one in spans_of(connection, OLD)] == [at(2)]


def test_a_run_of_revision_9_that_is_deleted_stays_deleted(upgraded):
    """With its steps and events, and the orphans of its trace; a span that is sent again is not stored."""
    with upgraded.writing() as connection:
        (receipt,) = delete_run(connection, OLD, deleted_at=at(10_000), deleted_by="ops")
    assert receipt.run_id == "run-1"
    deliver(upgraded, step(2, 1), step(5, 4))
    with upgraded.reading() as connection:
        assert get_run(connection, event_id=OLD) is None
        assert spans_of(connection, OLD) == spans_of(connection, "") == events_of(connection, OLD) == []
