"""What the runs of a session add up to, beside what they used (`figure_queries.spending_of_session`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, func, select

from otel_agent_telemetry.storage.tables import agent_runs

MAX_RUNS: Final = 10_000
"""Runs of a session that are added at most, the oldest of them."""
_runs: Final = agent_runs.c
_columns: Final = (_runs.status, _runs.duration_ms, _runs.created_at, _runs.end_time)


@dataclass(frozen=True, slots=True)
class SessionSum:
    """The runs of a session: by status, their durations together, and when the first began and the last ended.

    `complete`: whether there are no more runs than were added.
    """

    statuses: dict[str, int]
    duration_ms: int
    first: str | None
    last: str | None
    complete: bool

    @property
    def runs(self) -> int:
        """Return how many were added."""
        return sum(self.statuses.values())


def sum_of_session(connection: Connection, session_id: str) -> SessionSum:
    """Return the sum of a session's runs."""
    ordered = select(*_columns).where(_runs.session_id == session_id).order_by(_runs.created_at, _runs.id)
    added = ordered.limit(MAX_RUNS).subquery()
    last = func.max(func.coalesce(added.c.end_time, added.c.created_at))
    sums = (func.count(), func.sum(added.c.duration_ms), func.min(added.c.created_at), last)
    statuses: dict[str, int] = {}
    duration_ms, begins, ends = 0, [], []
    for status, runs, duration, first, end in connection.execute(
        select(added.c.status, *sums).group_by(added.c.status)
    ):
        statuses[status] = int(runs)
        duration_ms += int(duration)
        begins.append(first)
        ends.append(end)
    complete = sum(statuses.values()) < MAX_RUNS
    return SessionSum(statuses, duration_ms, min(begins, default=None), max(ends, default=None), complete)
