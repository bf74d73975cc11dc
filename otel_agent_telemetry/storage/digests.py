"""Counts and digests of the stored runs of one UTC day, by the host that they name: what a host compares with.

A run belongs to the day of its `created_at`, which never changes. The digest of a set of runs is
`run_content.added_digests` of theirs, so a host computes it from its journal.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Select, select

from otel_agent_telemetry.run_content import CONTENT_COLUMNS, added_digests, run_digest
from otel_agent_telemetry.storage.tables import agent_runs

_AT_A_TIME: Final = 1000
_runs: Final = agent_runs.c
_columns: Final = (*(_runs[name] for name in CONTENT_COLUMNS), _runs.id)
_END_OF_DAY: Final = "T24"


class HostDigest(NamedTuple):
    """The runs of one host on a day: how many, and the digest of all."""

    host: str
    runs: int
    digest: str


class RunDigest(NamedTuple):
    """One run: its state's order, and its digest. `id` continues a listing."""

    id: int
    event_id: str
    status: str
    updated_at: str
    digest: int


def day_digests(connection: Connection, day: str) -> list[HostDigest]:
    """Return the digest of each host that has runs on a UTC day, `2026-01-31`. Reads these runs."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    after = 0
    while rows := connection.execute(_of_day(day).where(_runs.id > after).limit(_AT_A_TIME)).mappings().all():
        for row in rows:
            found[row["host"] or ""].append(run_digest(dict(row)))
        after = rows[-1]["id"]
    return [HostDigest(host, len(digests), added_digests(digests)) for host, digests in sorted(found.items())]


def host_digests(connection: Connection, day: str, host: str, *, after: int, limit: int) -> list[RunDigest]:
    """Return the runs of a host on a day one by one, at most `limit` after an id; "" are runs without a host."""
    of_host = _runs.host == host if host else (_runs.host.is_(None) | (_runs.host == ""))
    rows = connection.execute(_of_day(day).where(of_host, _runs.id > after).limit(limit)).mappings()
    return [
        RunDigest(row["id"], row["event_id"], row["status"], row["updated_at"], run_digest(dict(row))) for row in rows
    ]


def _of_day(day: str) -> Select[Any]:
    """Return the statement for the runs created on a UTC day, in the order of their rows."""
    return select(*_columns).where(_runs.created_at >= day, _runs.created_at < day + _END_OF_DAY).order_by(_runs.id)
