"""What every target must do, over each of them: the SQLite file, a database, a service by HTTP, the service's writer."""

from __future__ import annotations

import random
import sqlite3
import threading
from contextlib import closing

import pytest
from on_disk import record, rows_of

from otel_agent_telemetry.delivery.database_target import DatabaseTarget
from otel_agent_telemetry.delivery.http_target import HttpTarget
from otel_agent_telemetry.delivery.outcome import Batch, Delivered, RetryLater
from otel_agent_telemetry.delivery.sqlite_target import SqliteTarget
from otel_agent_telemetry.model import CommitLink, later_state
from otel_agent_telemetry.service.buffer_drain import WriterTarget
from otel_agent_telemetry.service.writer import GroupWriter
from otel_agent_telemetry.storage.store import Store
from otel_agent_telemetry.testing import isolated_config


class Case:
    """One target, what has arrived behind it, and a way to take it away."""

    def __init__(self, target, rows, *, take_away, bring_back, close=lambda: None):
        self.target = target
        self.rows = rows
        self.take_away = take_away
        self.bring_back = bring_back
        self._close = close

    def close(self):
        self.target.close()
        self._close()


def _file_case(kind, tmp_path):
    config = isolated_config(tmp_path, db_busy_timeout_ms=50, db_max_retries=0)
    locks = []

    def take_away():
        locks.append(sqlite3.connect(config.db_path, isolation_level=None))
        locks[-1].execute("BEGIN EXCLUSIVE")

    def bring_back():
        locks.pop().close()

    return Case(kind(config), lambda: rows_of(config), take_away=take_away, bring_back=bring_back)


def _writer_case(tmp_path):
    config = isolated_config(tmp_path, db_busy_timeout_ms=50, db_max_retries=0)
    case = _file_case(lambda _: None, tmp_path)
    store = Store(config, stop=threading.Event())
    store.open()
    writer = GroupWriter(store)
    writer.start()
    case.target = WriterTarget(writer, "this service", store_id=None)
    case._close = lambda: (writer.stop(5.0), store.close())
    return case


@pytest.fixture(params=["sqlite", "database", "http", "writer"])
def case(request, tmp_path, service):
    if request.param == "http":
        target = HttpTarget(service.url, isolated_config(tmp_path))
        rows = lambda: {run.run_id: run.to_fields() for run in service.rows}  # noqa: E731
        made = Case(target, rows, take_away=service.kill, bring_back=service.start)
    elif request.param == "writer":
        made = _writer_case(tmp_path)
    else:
        made = _file_case({"sqlite": SqliteTarget, "database": DatabaseTarget}[request.param], tmp_path)
    with closing(made):
        yield made


def states(count=3):
    """A start and an end of each of some runs."""
    return [state for n in range(count) for state in (record(n), record(n, status="success", updated=2))]


def test_delivered_means_that_it_is_there(case):
    """After `Delivered` others read the rows."""
    assert case.target.deliver(Batch.of(record(n, status="success", updated=1) for n in range(20))) == Delivered()

    assert {run_id: row["status"] for run_id, row in case.rows().items()} == {f"run-{n}": "success" for n in range(20)}


def test_any_order_and_repetition_ends_in_the_same_rows(case):
    """Invariant 2, through whichever target."""
    arriving = states() * 2
    random.Random(3).shuffle(arriving)
    for state in arriving:
        assert case.target.deliver(Batch.of((state,))) == Delivered()

    assert len(case.rows()) == 3
    for n in range(3):
        expected = later_state(*states()[2 * n : 2 * n + 2]).to_fields()
        assert {name: case.rows()[f"run-{n}"][name] for name in expected} == expected


def test_a_target_that_is_away_confirms_nothing_and_takes_the_same_later(case):
    """`RetryLater` with a reason; nothing is raised."""
    case.target.deliver(Batch.of((record(1),)))
    case.take_away()
    outcome = case.target.deliver(Batch.of((record(2),)))
    case.bring_back()

    assert isinstance(outcome, RetryLater)
    assert outcome.reason
    assert case.target.deliver(Batch.of((record(2),))) == Delivered()
    assert sorted(case.rows()) == ["run-1", "run-2"]


def test_lines_of_other_types_are_passed_over(case):
    """Events and steps among the states: taken or not, they hold nothing up."""
    event = {"record_type": "event", "event_id": record(1).event_id, "run_id": "run-1", "event_type": "checkpoint",
             "timestamp": record(1).start_time}  # fmt: skip

    assert case.target.deliver(Batch((event, *Batch.of((record(1),)).lines))) == Delivered()
    assert list(case.rows()) == ["run-1"]


def test_an_empty_batch_is_delivered(case):
    """Nothing to do is done."""
    assert case.target.deliver(Batch()) == Delivered()


def test_closing_twice_is_harmless_and_delivery_begins_anew(case):
    """A target that was closed opens again when it is used."""
    case.target.deliver(Batch.of((record(1),)))
    case.target.close()
    case.target.close()

    assert case.target.deliver(Batch.of((record(2),))) == Delivered()
    assert sorted(case.rows()) == ["run-1", "run-2"]


def test_a_commit_is_associated(case):
    """With the run in one batch."""
    link = CommitLink(run_id="run-1", commit_hash="abcdef1", commit_source="ci", associated_at=record(1).updated_at)

    assert case.target.deliver(Batch.of((record(1, status="success", updated=1),), (link,))) == Delivered()
