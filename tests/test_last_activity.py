"""What the journal says last of runs that nobody ended."""

from __future__ import annotations

import pytest

from otel_agent_telemetry.last_activity import ActivityJournal
from otel_agent_telemetry.wire import encode_line


@pytest.fixture
def day(tmp_path):
    """Writes a day file of given bytes."""
    return (tmp_path / "events_20260101.ndjson").write_bytes


def line(seq, **more):
    return encode_line("event", {"writer": "w", "seq": seq, "event_id": "e", **more})


def test_last_sign_of_life_is_the_latest_time_of_any_line(tmp_path, day):
    """Of a writer's lines about each run the latest time counts, wherever it stands in a line."""
    day(
        encode_line(
            "run",
            {"writer": "w", "event_id": "a", "start_time": "2026-01-01T00", "updated_at": "2026-01-01T05"},
        )
        + encode_line("event", {"writer": "w", "event_id": "a", "timestamp": "2026-01-01T03"})
        + encode_line("event", {"writer": "other", "event_id": "a", "timestamp": "2026-01-01T09", "payload": "w"})
        + encode_line("span", {"writer": "w", "event_id": "b", "start_time": "2026-01-01T01", "end_time": None})
    )

    found = ActivityJournal(tmp_path).of_writer("w", "ab", first_day="20260101")

    assert {run: one.at for run, one in found.items()} == {"a": "2026-01-01T05", "b": "2026-01-01T01"}


def test_last_signs_read_the_tail_of_a_huge_day(tmp_path, day):
    """Past `max_bytes` only the end is read: the latest line is there."""
    day(line(1, timestamp="2026-01-01T01") * 100 + line(2, timestamp="2026-01-01T02"))

    found = ActivityJournal(tmp_path).of_writer("w", "e", first_day="", max_bytes=200)
    assert {run: one.at for run, one in found.items()} == {"e": "2026-01-01T02"}


def test_the_last_error_of_a_run_is_that_of_its_latest_failed_step_or_exception(tmp_path, day):
    """Whatever the order of the lines; steps that did not fail and other events name none."""

    def step(at, **members):
        return encode_line("span", {"writer": "w", "event_id": "a", "end_time": f"2026-01-01T{at:02}", **members})

    exception = {"exception.type": "Overloaded", "exception.message": "try later\nagain"}
    event = {"writer": "w", "event_id": "a", "event_type": "exception", "payload": exception}
    lines = [
        step(9, status="error", attributes={"error.type": "529"}),
        step(3, status="error", status_message="too early"),
        encode_line("event", {**event, "timestamp": "2026-01-01T05"}),
        step(11, status="ok", status_message="no error"),
        step(12, status="error"),
        encode_line("event", {**event, "timestamp": "2026-01-01T13", "event_type": "note"}),
    ]
    day(b"".join(lines))
    assert ActivityJournal(tmp_path).of_writer("w", "a", first_day="")["a"].error == "529"
    day(b"".join(lines[1:]))
    assert ActivityJournal(tmp_path).of_writer("w", "a", first_day="")["a"].error == "Overloaded: try later"


class Counted:
    """A sum of steps that keeps their ids."""

    def __init__(self):
        self.steps = []

    def add(self, step):
        self.steps.append(step["span_id"])

    def shown(self):
        return {"steps": len(self.steps)}


def test_steps_that_have_ended_are_added_up_for_the_runs_that_are_asked_for(tmp_path, day):
    """The start of a step is a line, too, and other runs of the writer have ended."""
    members = {"writer": "w", "event_id": "a", "start_time": "2026-01-01T03"}
    day(
        encode_line("span", {**members, "span_id": "1", "end_time": None})
        + encode_line("span", {**members, "span_id": "1", "end_time": "2026-01-01T04"})
        + encode_line("event", {**members, "span_id": "2", "timestamp": "2026-01-01T04"})
        + encode_line("span", {**members, "event_id": "b", "span_id": "3", "end_time": "2026-01-01T04"})
    )
    found = ActivityJournal(tmp_path, Counted).of_writer("w", ["a", "quiet"], first_day="")
    assert {run: one.used() for run, one in found.items()} == {"a": {"steps": 1}, "quiet": {"steps": 0}}
    assert ActivityJournal(tmp_path).of_writer("w", "a", first_day="")["a"].used() == {}
