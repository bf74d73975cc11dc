"""Which rows of a run's tree `show` prints: parts of long ones, failures, the end, the rows around a time."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_agent_telemetry.cli.show_rows import parts_of, text_of, without_repeats
from otel_agent_telemetry.model import RunEvent, RunSpan
from otel_agent_telemetry.operations.run_outline import OutlineRow


def step(number, **more):
    values = {
        "event_id": "e",
        "run_id": "r",
        "trace_id": "t",
        "span_id": f"{number:016x}",
        "parent_span_id": None,
        "kind": "internal",
        "name": f"step {number}",
        "status": "unset",
        "status_message": None,
        "attributes": {},
        "start_time": f"2026-11-28T10:00:{number % 60:02d}.000000+00:00",
        "duration_ms": 5,
        "end_time": "2026-11-28T10:01:00+00:00",
    }
    return RunSpan(**{**values, **more})


def event(event_type, payload, at="2026-11-28T10:00:01.500000+00:00"):
    return RunEvent(event_id="e", run_id="r", event_type=event_type, timestamp=at, payload=payload)


def rows_of(*items, depth=1):
    return [OutlineRow(item, (True,) * depth) for item in items]


def shown(parts):
    return list(chain.from_iterable(part.rows for part in parts))


@given(st.integers(0, 300), st.integers(2, 120), st.sampled_from(["", "last", "around", "errors"]), st.data())
def test_what_is_left_out_is_counted(number, most, which, data):
    """Of any tree: the rows that are shown and those that are counted are all of them, in their order."""
    failed = data.draw(st.sets(st.integers(0, max(number - 1, 0)))) if number else set()
    rows = rows_of(*(step(at, status="error" if at in failed else "unset") for at in range(number)))
    how = {
        "": {},
        "last": {"last": most},
        "around": {"around": "2026-11-28T10:00:30"},
        "errors": {"errors": True},
    }[which]
    parts = parts_of(rows, most=most, **how)
    assert sum(part.left_out + len(part.rows) for part in parts) == number
    kept = shown(parts)
    assert kept == [row for row in rows if row in kept]
    if which == "errors":
        assert {row.item.span_id for row in kept} == {f"{at:016x}" for at in failed}
    else:
        assert len(kept) == min(number, most)


def test_a_long_tree_has_its_beginning_and_its_end():
    """Complaints about trace viewers: the end of a long trace, where it failed, cannot be reached."""
    parts = parts_of(rows_of(*map(step, range(5_000))), most=10)
    assert [(part.left_out, [row.item.name for row in part.rows]) for part in parts] == [
        (0, [f"step {at}" for at in range(6)]),
        (4_990, [f"step {at}" for at in range(4_996, 5_000)]),
    ]


def test_rows_around_a_time_are_those_before_and_after_it():
    """A log of another system gives the time."""
    rows = rows_of(*map(step, range(60)))
    parts = parts_of(rows, most=4, around="2026-11-28T10:00:30.5")
    assert [part.left_out for part in parts] == [29, 27]
    assert [row.item.name for row in shown(parts)] == ["step 29", "step 30", "step 31", "step 32"]


def test_errors_are_shown_within_the_steps_around_them():
    """Its neighbours are counted."""
    rows = [
        OutlineRow(step(1), (True,)),
        OutlineRow(step(2), (True, True)),
        OutlineRow(step(3, status="error"), (True, False)),
        OutlineRow(step(4), (False,)),
    ]
    parts = parts_of(rows, most=100, errors=True)
    assert [row.item.name for row in shown(parts)] == ["step 1", "step 3"]
    assert [part.left_out for part in parts] == [0, 1, 1]


@pytest.mark.parametrize(
    ("message", "expected"),
    [("the model answered 529", []), ("something else", ["exception"]), ("", ["exception"])],
)
def test_an_exception_that_a_step_says_already_is_shown_once(message, expected):
    """It passes through each step around it, and each of them records it."""
    failed = step(1, status="error", status_message="RuntimeError: the model answered 529")
    raised = event("exception", {"exception.message": message, "exception.stacktrace": "Traceback"})
    rows = list(without_repeats(rows_of(failed, raised), cause="RuntimeError: the model answered 529"))
    assert [row.item.event_type for row in rows if isinstance(row.item, RunEvent)] == expected


def test_a_model_call_has_its_tokens_and_its_cost():
    """A cost that the span reports counts before any price list; a step that is no call has none."""
    call = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m-1", "gen_ai.usage.input_tokens": 15_000}
    attributes = {**call, "gen_ai.usage.output_tokens": 7, "gen_ai.usage.cost": 0.5}
    (row,) = rows_of(step(1, name="ask", attributes=attributes))
    text, _ = text_of(row, 200, utc=True)
    assert text == "├─ 10:00:01.000  model ask  5 ms · m-1 · 15.0k in, 7 out · $0.50"
    (row,) = rows_of(step(2, name="tidy", status="error", status_message="no"))
    assert text_of(row, 200, utc=True) == ("├─ 10:00:02.000  tidy  error  5 ms  no", "red")


def test_an_open_step_and_an_event_without_its_stack_trace():
    """The run's error holds the stack trace, once."""
    opened, told = rows_of(
        step(1, end_time=None, status="running"), event("exception", {"a": 1, "exception.stacktrace": "x"})
    )
    assert text_of(opened, 200, utc=True)[0].endswith("step 1  not ended")
    assert text_of(told, 200, utc=True)[0] == '├─ 10:00:01.500  exception  {"a": 1}'
    assert text_of(told, 12, utc=True)[0] == "├─ 10:00:01…"
