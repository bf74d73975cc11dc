"""The hosts that deliver their journals here: when each was last heard of, and what it has not delivered yet.

A deliverer describes itself with each request (`DelivererReport`). One that has gone silent while
records waited or runs were open is what an operator must know of: nobody else can.

Owns the table `deliverers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Final

from sqlalchemy import Connection, Dialect, select

from otel_agent_telemetry.clock import parse_iso
from otel_agent_telemetry.deliverer_report import DelivererReport
from otel_agent_telemetry.storage.rows import clean_text
from otel_agent_telemetry.storage.statements import Statement, compile_statement, insert_into
from otel_agent_telemetry.storage.tables import deliverers

SILENCE_S: Final = 600.0
"""After how long without a word a deliverer that had something left is a finding."""
_COLUMNS: Final = tuple(column.name for column in deliverers.c)
_IDENTITY: Final = ("host", "base_dir")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliverer(DelivererReport):
    """A deliverer as its last request described it. Times are this service's."""

    first_seen: str
    last_seen: str

    def contact_age_s(self, now_ns: int) -> float:
        """Return the seconds since its last request."""
        return max((now_ns - parse_iso(self.last_seen)) / 1e9, 0.0)

    def lag_s(self, now_ns: int) -> float:
        """Return how old the oldest record is that waits on its host; 0 when none does."""
        return 0.0 if self.oldest_unsent is None else max((now_ns - parse_iso(self.oldest_unsent)) / 1e9, 0.0)

    def is_silent(self, now_ns: int) -> bool:
        """Return whether nothing was heard for ten minutes of a deliverer that had records or open runs left."""
        has_work = self.backlog_records or self.backlog_bytes or self.open_runs
        return bool(has_work) and self.contact_age_s(now_ns) >= SILENCE_S


def note_deliverers(connection: Connection, reports: Sequence[DelivererReport], *, now: str) -> None:
    """Store what deliverers say of themselves, each the last that it said. Within the connection's transaction."""
    latest = {(report.host, report.base_dir): report for report in reports}
    ordered = [asdict(latest[key]) for key in sorted(latest)]  # one locking order: two writers never deadlock
    times = {"first_seen": now, "last_seen": now}
    rows = [tuple(clean_text({**report, **times}[name]) for name in _COLUMNS) for report in ordered]
    _upsert(connection.dialect).execute(connection, _COLUMNS, rows)


@lru_cache(maxsize=8)
def _upsert(dialect: Dialect) -> Statement:
    """Return the statement that keeps what a deliverer says of itself, and when it was first seen."""
    statement = insert_into(deliverers, dialect)
    # `first_seen` stays: it is from when on a host counts as one that should be heard of.
    changes = {name: statement.excluded[name] for name in _COLUMNS if name not in (*_IDENTITY, "first_seen")}
    upsert = statement.on_conflict_do_update(index_elements=_IDENTITY, set_=changes)
    return compile_statement(upsert, dialect, _COLUMNS)


def list_deliverers(connection: Connection, *, limit: int = 1000) -> list[Deliverer]:
    """Return the deliverers, the one that was heard of longest ago first; at most `limit`, the latest ones."""
    latest = select(deliverers).order_by(deliverers.c.last_seen.desc()).limit(limit)
    rows = connection.execute(latest).mappings()
    return [Deliverer(**row) for row in rows][::-1]
