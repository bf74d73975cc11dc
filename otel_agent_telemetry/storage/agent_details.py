"""What one agent's newest runs show: why they failed, and which of their steps take long.

Both read a bounded number of the newest runs, whichever agent's they are, and take those of the agent: a
page about an agent that runs seldom costs no more than any other. How many were read is part of the answer.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Select, select

from otel_agent_telemetry.storage.durations import class_of, quantile
from otel_agent_telemetry.storage.run_filters import has_status
from otel_agent_telemetry.storage.statements import rows_with
from otel_agent_telemetry.storage.tables import agent_runs, run_spans

MAX_FAILURES: Final = 2_000
"""Runs of all agents that are read at most, of each status that is a failure."""
MAX_RUNS: Final = 2_000
"""Runs of all agents that are read at most to find those whose steps are shown."""
_RUNS_WITH_STEPS: Final = 100
_MAX_STEPS: Final = 10_000
_FAILURES: Final = ("failed", "timeout")
_MAX_CAUSE: Final = 300
_runs: Final = agent_runs.c
_steps: Final = select(run_spans.c.name, run_spans.c.duration_ms, run_spans.c.status).where(run_spans.c.is_run == 0)

# What differs between two failures of one cause: ids, addresses in memory, quoted values, numbers.
_IDS: Final = re.compile(
    r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b|\b0x[0-9a-fA-F]+\b"
    r"|\b(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{12,}\b"
)
_NUMBERS: Final = re.compile(r"\d+(?:[.,:]\d+)*")


@dataclass(frozen=True, slots=True)
class Cause:
    """A cause of failures. `summary`, `event_id`, `last`: text, cut, run and creation time of the newest one."""

    cause: str
    runs: int
    summary: str
    event_id: str
    last: str


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Steps of one name: how many, how many of them failed, and durations in milliseconds."""

    name: str
    steps: int
    failed: int
    p50_ms: float
    p95_ms: float
    total_ms: int


def cause_of(error_summary: str | None) -> str:
    """Return what an error has in common with others of its cause: its first line without ids and numbers."""
    line = next(iter((error_summary or "").strip().splitlines()), "")[:_MAX_CAUSE]
    # Ids first: what is left of one, once its digits are gone, would be another text each time.
    return _NUMBERS.sub("…", _IDS.sub("…", line)).strip() or "no error recorded"


def failures_of(connection: Connection, agent: str, first: str, last: str, *, limit: int) -> tuple[list[Cause], bool]:
    """Return the causes of an agent's failures between two times, the most frequent first.

    The flag is False where there are more failures than were read.
    """
    columns = (_runs.agent_name, _runs.created_at, _runs.event_id, _runs.error_summary)
    by_cause: defaultdict[str, list[tuple[str, str, str]]] = defaultdict(list)
    complete = True
    for status in _FAILURES:  # one index serves each, and not both at once
        newest = _newest(select(*columns).where(has_status(status)), first, last).limit(MAX_FAILURES)
        found = connection.execute(newest).all()
        complete = complete and len(found) < MAX_FAILURES
        for name, created_at, event_id, summary in found:
            if name == agent:
                by_cause[cause_of(summary)].append((created_at, event_id, summary or ""))
    causes = []
    for cause, runs in by_cause.items():
        created_at, event_id, summary = max(runs)
        causes.append(Cause(cause, len(runs), summary[:_MAX_CAUSE], event_id, created_at))
    causes.sort(key=lambda one: (-one.runs, one.cause))
    return causes[:limit], complete


def slowest_steps(
    connection: Connection, agent: str, first: str, last: str, *, limit: int
) -> tuple[list[StepTimes], int]:
    """Return the steps that took the longest altogether in an agent's newest runs, and the number of those runs."""
    newest = _newest(select(_runs.agent_name, _runs.event_id), first, last).limit(MAX_RUNS).subquery()
    of_agent = select(newest.c.event_id).where(newest.c.agent_name == agent).limit(_RUNS_WITH_STEPS)
    event_ids = list(connection.execute(of_agent).scalars())
    by_name: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for name, duration_ms, status in rows_with(connection, _steps.limit(_MAX_STEPS), run_spans.c.event_id, event_ids):
        by_name[name].append((duration_ms, status))
    times = sorted((_times(name, steps) for name, steps in by_name.items()), key=lambda one: (-one.total_ms, one.name))
    return times[:limit], len(event_ids)


def _times(name: str, steps: list[tuple[int, str]]) -> StepTimes:
    """Return the line of the steps of one name."""
    classes: defaultdict[int, int] = defaultdict(int)
    for duration_ms, _ in steps:
        classes[class_of(duration_ms)] += 1
    p50, p95 = (quantile(classes, share) or 0.0 for share in (0.5, 0.95))
    failed = sum(status == "error" for _, status in steps)
    return StepTimes(name, len(steps), failed, p50, p95, sum(duration for duration, _ in steps))


def _newest(selected: Select[Any], first: str, last: str) -> Select[Any]:
    """Return a statement for the runs between two times, the newest first."""
    return selected.where(_runs.created_at.between(first, last)).order_by(_runs.created_at.desc(), _runs.id.desc())
