"""Spans whose root span never arrived: the run that they become, and the root that comes after all."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from storage_cases import at, at_ns
from trace_cases import TRACE, deliver, events, run, span, step, usage_of, using

from otel_agent_telemetry.missing_root import REASON
from otel_agent_telemetry.run_id import span_event_id_without_start
from otel_agent_telemetry.storage.queries import children_of, get_run, list_runs
from otel_agent_telemetry.storage.rollups import rollups_of
from otel_agent_telemetry.storage.run_filters import RunQuery
from otel_agent_telemetry.storage.silence import close_silent
from otel_agent_telemetry.storage.steps import events_of, spans_of
from otel_agent_telemetry.storage.store import WriteBatch
from otel_agent_telemetry.storage.traces import SpanNode

SILENCE_S = 600
CALL = {"steps": 1, "model_calls": 1, "input_tokens": 5}


def close(database, at_s):
    """What a service does that looks at this time."""
    with database.writing() as connection:
        return close_silent(connection, now_ns=at_ns(at_s), silence_s=SILENCE_S, agent_of=lambda given: given.get("a"))


def of_missing(number):
    return span_event_id_without_start(TRACE, f"{number:016x}")


def runs(database):
    with database.reading() as connection:
        return list_runs(connection, RunQuery())


def test_spans_without_their_root_become_a_failed_run_after_a_silence(database):
    """With the name, the times and the sums of what is there."""
    deliver(database, step(3, 2, count=1), using(2, 1, CALL))
    assert close(database, 3 + SILENCE_S) == 0
    assert close(database, 5 + SILENCE_S) == 1
    assert close(database, 9 + SILENCE_S) == 0
    (found,) = runs(database)
    assert (found.status, found.error_summary, found.job_type) == ("failed", REASON, "span 2")
    assert (found.start_time, found.end_time, found.duration_ms) == (at(2), at(4), 2000)
    assert (found.event_id, found.span_id) == (of_missing(1), f"{1:016x}")
    assert (found.input_tokens, found.model_calls) == (5, 1)
    with database.reading() as connection:
        assert [one.run_id for one in spans_of(connection, found.event_id)] == [found.run_id] * 2
        assert [one.run_id for one in events_of(connection, found.event_id)] == [found.run_id]


@pytest.mark.parametrize(
    ("exception_at", "error"), [(None, "429 slow down"), (3, "429 slow down"), (9, "Overloaded: try later")]
)
def test_the_last_error_known_is_named_and_gives_way_to_the_root(database, exception_at, error):
    """That of a failed span or of an exception, whichever came last."""
    failed = SpanNode(replace(span(3, 1), status="error", status_message="429 slow down"), start_ns=at_ns(3))
    works = SpanNode(replace(span(4, 1), status="ok", status_message="fine"), start_ns=at_ns(4))
    if exception_at is not None:
        (event,) = events(4, 1)
        payload = {"exception.type": "Overloaded", "exception.message": "try later"}
        event = replace(event, event_type="exception", timestamp=at(exception_at), payload=payload)
        works = replace(works, events=(event,))
    deliver(database, WriteBatch(nodes=(failed, works)))
    close(database, 99 + SILENCE_S)
    assert [found.error_summary for found in runs(database)] == [f"{REASON}; its last error: {error}"]
    deliver(database, run(1, start=0))
    assert [(found.status, found.error_summary) for found in runs(database)] == [("success", None)]


def test_a_root_that_comes_after_all_joins_the_row(database):
    """Its columns stand, the row and what belongs to it stay; once and again."""
    deliver(database, using(2, 1, CALL), run(5, 1))
    close(database, 9 + SILENCE_S)
    root = run(1, start=0, own=99)
    deliver(database, root, step(4, 1), root)
    found, inner = sorted(runs(database), key=lambda one: one.start_time)
    assert (found.event_id, found.run_id, found.status) == (of_missing(1), "run-1-at-0", "success")
    assert (found.error_summary, found.created_at) == (None, at(0))
    assert inner.parent_run_id == found.run_id
    with database.reading() as connection:
        assert [child.run_id for child in children_of(connection, found.run_id)] == [inner.run_id]
        assert {one.run_id for one in spans_of(connection, found.event_id)} == {found.run_id}
        rollup = rollups_of(connection, [found.event_id])[found.event_id]
    assert (rollup.own, rollup.steps) == ({"input_tokens": 99}, {**CALL, "steps": 2})


@pytest.mark.parametrize("order", list(permutations(range(2))))
def test_a_missing_span_that_is_a_step_takes_the_run_back(database, order):
    """What was below it belongs to the root above it."""
    deliver(database, using(3, 2, CALL))
    close(database, 9 + SILENCE_S)
    late = [step(2, 1), run(1)]
    deliver(database, *(late[index] for index in order))
    assert [found.run_id for found in runs(database)] == ["run-1"]
    assert usage_of(database, 1) == {**CALL, "steps": 2}


def test_each_missing_parent_gives_a_run_of_its_own(database):
    """Two roots of one trace were lost."""
    deliver(database, step(3, 1), step(4, 2), step(5, 4))
    assert close(database, 9 + SILENCE_S) == 2
    assert {found.span_id for found in runs(database)} == {f"{1:016x}", f"{2:016x}"}


def test_spans_that_are_their_own_ancestors_become_a_run(database):
    """A circle of three with a span below it, and one that is its own parent."""
    deliver(database, step(2, 3), step(3, 4), step(4, 2), step(5, 4), step(6, 6))
    assert close(database, 9 + SILENCE_S) == 2
    with database.reading() as connection:
        counts = sorted(len(spans_of(connection, found.event_id)) for found in list_runs(connection, RunQuery()))
    assert counts == [1, 4]


def test_what_belongs_to_a_run_is_left_alone(database):
    """However long it is silent, and whether it has ended."""
    deliver(database, run(1), step(2, 1), run(3, 1))
    assert close(database, 99 + SILENCE_S) == 0
    with database.reading() as connection:
        assert get_run(connection, run_id="run-1").status == "success"
