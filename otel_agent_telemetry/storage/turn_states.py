"""Write the rows of turns' runs: what the records say now, whatever they said before.

States of a run are in one order, and the greatest stands (`model`). A turn's state is worked out anew whenever
records come: one that silence has ended may go on, or have ended later, or otherwise. So it *replaces* what was made
of the same turn before, and only what somebody else has changed in the row meanwhile stays: an operator, a commit.
Neither order nor repetition of the records can matter then, because the state depends on all of them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, bindparam, delete, select

from otel_agent_telemetry.columns import COLUMNS, COMMIT_COLUMNS, OBSERVED_BY_STORE, POSTING_COLUMNS, Fields
from otel_agent_telemetry.run_state import is_greater
from otel_agent_telemetry.storage.queries import own_states
from otel_agent_telemetry.storage.rows import WriteOutcome
from otel_agent_telemetry.storage.run_keys import rename_run
from otel_agent_telemetry.storage.runs import upsert_runs
from otel_agent_telemetry.storage.tables import agent_runs

_KEPT_BY_STORE: Final = ("received_at", *POSTING_COLUMNS)
_COMPARED: Final = tuple(
    name for name in COLUMNS if name not in {*COMMIT_COLUMNS, *POSTING_COLUMNS, *OBSERVED_BY_STORE, "schema_version"}
)
"""Columns by which it is seen that somebody else has changed a row."""
_forget_run: Final = delete(agent_runs).where(agent_runs.c.event_id == bindparam("of_run"))
_kept: Final = select(*(agent_runs.c[name] for name in _KEPT_BY_STORE)).where(
    agent_runs.c.event_id == bindparam("of_run")
)


def put_states(connection: Connection, changes: Sequence[tuple[Fields | None, Fields]]) -> list[WriteOutcome]:
    """Write states of turns, each with the one that was made before it, None for none; return what became of each.

    Within the connection's transaction.
    """
    stored = {run.event_id: run.to_fields() for run in own_states(connection, [now["event_id"] for _, now in changes])}
    return upsert_runs(
        connection, [_state_to_write(connection, stored.get(now["event_id"]), before, now) for before, now in changes]
    )


def _state_to_write(connection: Connection, row: Fields | None, before: Fields | None, now: Fields) -> Fields:
    """Return the state that has to stand; a row that would stand against it is deleted."""
    if row is None:
        return now
    if before is not None:
        # A row has no 0 where the state has one: it is the column's default.
        others = {name: row.get(name) for name in _COMPARED if (row.get(name) or None) != (before.get(name) or None)}
        now = {name: value for name, value in {**now, **others}.items() if value is not None}
    rename_run(connection, now["event_id"], now["run_id"])
    if is_greater(now, row):
        return now
    # The row goes, because by the order of states it would stay; its place in the database is the price, paid rarely.
    kept = connection.execute(_kept, {"of_run": now["event_id"]}).one()
    connection.execute(_forget_run, {"of_run": now["event_id"]})
    return {**now, **{name: value for name, value in zip(_KEPT_BY_STORE, kept, strict=True) if value}}
