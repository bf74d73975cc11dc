"""Ending the runs that nobody can end any more: what the closing state says, and that it loses to any end."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as some
from on_disk import record

from otel_agent_telemetry.clock import iso_utc, parse_iso
from otel_agent_telemetry.delivery.outcome import Batch
from otel_agent_telemetry.model import RunRecord, later_state
from otel_agent_telemetry.recording.active_runs import ActiveRun
from otel_agent_telemetry.run_state import closing_state
from otel_agent_telemetry.testing import InMemoryTarget

START = 1_760_000_000 * 10**9


def close(state, last_sign=""):
    closed = closing_state(
        state.to_fields(), reason="process 1 on host is gone", last_sign=last_sign or state.updated_at
    )
    return RunRecord.from_fields(closed)


def test_closing_says_how_the_run_ended():
    """Failed, ended at the last sign of life, with the reason; everything known before stays."""
    last = record(1, updated=5, items_succeeded=3)

    closed = close(last, record(1, updated=9).updated_at)

    assert (closed.status, closed.end_time, closed.duration_ms) == (
        "failed",
        record(1, updated=9).updated_at,
        9000,
    )
    assert closed.error_summary.startswith("process 1 on host is gone; the run never ended")
    assert (closed.items_succeeded, closed.event_id, closed.run_id) == (3, last.event_id, last.run_id)


def test_a_sign_before_the_start_ends_the_run_at_its_start():
    """Clocks of other files may lag; a run never ends before it begins."""
    closed = close(record(1), "2001-01-01T00:00:00.000000+00:00")

    assert (closed.end_time, closed.duration_ms) == (record(1).start_time, 0)


def test_two_deliverers_write_the_same():
    """Made from the state alone: byte for byte equal."""
    assert close(record(1, updated=4)) == close(record(1, updated=4))


@some.composite
def histories(draw):
    """The states that a run's own process wrote under a clock that does anything, ended or not."""
    run = ActiveRun(record(1).event_id, "", "", START, None)
    ends = draw(some.booleans())
    states = []
    instants = draw(some.lists(some.integers(START - 10**12, START + 10**12), min_size=1, max_size=5))
    for position, instant in enumerate(instants):
        ended = ends and position == len(instants) - 1
        updated = iso_utc(run.next_update_ns(instant))
        values = {**record(1).to_fields(), "updated_at": updated, "items_succeeded": position}
        states.append(RunRecord.from_fields({**values, "status": "success" if ended else "running"}))
    return states, ends


@given(histories(), some.data())
def test_closing_never_overrides_a_genuine_end(history, data):
    """In any order, with any repetition, beside closings made from any earlier state: the genuine end stands."""
    states, ended = history
    running = [state for state in states if not state.ended]
    closings = (
        [close(state) for state in data.draw(some.lists(some.sampled_from(running), max_size=4))] if running else []
    )
    last = [states[-1]] if ended else [close(states[-1])]
    arriving = data.draw(
        some.permutations([*states, *closings, *last, *data.draw(some.lists(some.sampled_from(states)))])
    )
    target = InMemoryTarget()

    for state in arriving:
        target.deliver(Batch.of((state,)))

    (standing,) = target.runs.values()
    assert standing == last[0]


@given(histories())
def test_closing_is_later_than_what_it_closes(history):
    """A closing is greater than its own state and smaller than whatever its process writes next."""
    states, _ = history
    for earlier, later in itertools.pairwise(states):
        closed = close(earlier)
        assert parse_iso(earlier.updated_at) < parse_iso(closed.updated_at) < parse_iso(later.updated_at)
        assert later_state(earlier, closed) == closed
