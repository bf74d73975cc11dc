"""Runs with steps and events for the tests of a run's page: lines of a journal, as an agent's host sends them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from otel_agent_telemetry.wire import encode_line
from tests.service.service_cases import at, ended, event_id, state

NDJSON = {"Content-Type": "application/x-ndjson"}
TRACE = "0af7651916cd43dd8448eb211c80319c"
PATH = f"/runs/{event_id(1)}"


def line(kind: str, seq: int, members: dict[str, Any]) -> bytes:
    """Return a line of a journal."""
    return encode_line(kind, {"writer": "20260131T120000-1-0000abcd", "seq": seq, **members})


def open_run(seq: int = 1, **more: Any) -> bytes:
    """Return the line of a run that has begun."""
    return line("run", seq, state(1, trace_id=TRACE, span_id=f"{1:016x}", **more))


def ended_run(seq: int = 1, **more: Any) -> bytes:
    """Return the line of a run that has ended."""
    return line("run", seq, ended(1, **{"updated": 60, "trace_id": TRACE, "span_id": f"{1:016x}", **more}))


def step(
    number: int, *, parent: int = 1, begins: float = 2.0, ends: float | None = 3.0, seq: int | None = None, **more: Any
) -> bytes:
    """Return the line of a step whose span has this number; the run's own span is number 1. Times are seconds."""
    members = {
        "event_id": event_id(1),
        "run_id": "run-1",
        "trace_id": TRACE,
        "span_id": f"{number:016x}",
        "parent_span_id": f"{parent:016x}",
        "name": f"step {number}",
        "kind": "internal",
        "start_time": at(begins),
        "status": "running",
        "attributes": {},
    }
    if ends is not None:
        members |= {"status": "ok", "end_time": at(ends), "duration_ms": round((ends - begins) * 1000)}
    return line("span", number if seq is None else seq, {**members, **more})


def event(seq: int, *, name: str = "progress", seconds: float = 2.5, **more: Any) -> bytes:
    """Return the line of an event of the run."""
    members = {"event_id": event_id(1), "run_id": "run-1", "trace_id": TRACE, "span_id": f"{1:016x}"}
    return line("event", seq, {**members, "event_type": name, "timestamp": at(seconds), "payload": {"n": seq}, **more})


def store(service: Any, *lines: bytes) -> None:
    """Store lines, and check that none was refused."""
    answer = service.client.post("/api/v1/records", content=b"".join(lines), headers=NDJSON)
    assert answer.status_code == 200, answer.text
    assert answer.json()["refused"] == []


def chain(levels: int, chains: int = 1) -> Sequence[bytes]:
    """Return steps in chains, each step inside the one before it."""
    found = []
    for at_chain in range(chains):
        for level in range(levels):
            number = 2 + at_chain * levels + level
            found.append(step(number, parent=1 if level == 0 else number - 1, begins=2 + level * 0.01, ends=50.0))
    return found
