"""Marks of deletions in a copy of a database: what either end has deleted is not in the target afterwards.

Receipts of single runs are copied first, and their runs deleted in the target. The cut-off of a
retention is copied to a target that has no run which it covers: an archive, into which runs are
copied before they are deleted at their source, keeps them.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Engine

from otel_agent_telemetry.columns import COLUMNS
from otel_agent_telemetry.deletion import CutOff
from otel_agent_telemetry.storage.deletions import apply_marks, put_cutoff, stored_ids
from otel_agent_telemetry.storage.engine import reading
from otel_agent_telemetry.storage.marks import marks_against, read_marks
from otel_agent_telemetry.storage.row_retention import count_old_runs
from otel_agent_telemetry.storage.rows import EVENT_ID
from otel_agent_telemetry.storage.steps import NO_RUN
from otel_agent_telemetry.storage.store import Store
from otel_agent_telemetry.storage.turn_rows import NO_TURN, turns_with

Row = tuple[Any, ...]


def copy_marks(source: Engine, store: Store) -> int:
    """Copy the marks of the source; return how many runs of the target were deleted by it. Raises StorageError."""
    with reading(source, "copying from") as connection:
        marks = read_marks(connection)
    cutoff, marks.cutoff = marks.cutoff, None
    deleted = store.transact(lambda connection: apply_marks(connection, marks))
    if cutoff is not None:
        store.transact(lambda connection: _copy_cutoff(connection, cutoff))
    return deleted


def _copy_cutoff(connection: Connection, cutoff: CutOff) -> None:
    """Store a cut-off, unless the target still has runs that it covers."""
    if not count_old_runs(connection, cutoff.cutoff).runs:
        put_cutoff(connection, cutoff)


def runs_to_copy(connection: Connection, rows: Sequence[Row]) -> Sequence[Row]:
    """Return the runs, rows of `agent_runs`, without those that the target has deleted."""
    marks = marks_against(connection, [row[EVENT_ID] for row in rows])
    if not marks:
        return rows
    stored = stored_ids(connection, [row[EVENT_ID] for row in rows])
    return [row for row in rows if row[EVENT_ID] in stored or not marks.cover(dict(zip(COLUMNS, row, strict=False)))]


def parts_to_copy(
    connection: Connection, rows: Sequence[Row], *, event_id_at: int, time_at: int | None
) -> Sequence[Row]:
    """Return rows that belong to runs without those of runs that the target has deleted.

    `event_id_at`, `time_at`: where a row has the run's `event_id` and its time. Of a run that the
    target does not have, what is older than the cut-off, or has no time, is left out.
    """
    event_id_of = itemgetter(event_id_at)
    event_ids = set(map(event_id_of, rows)) - {NO_RUN}
    marks = marks_against(connection, event_ids)
    if not marks:
        return rows
    kept = [row for row in rows if event_id_of(row) not in marks.deleted]
    if marks.cutoff is None:
        return kept
    stored, cutoff = stored_ids(connection, event_ids), marks.cutoff.cutoff
    return [row for row in kept if event_id_of(row) in stored or (time_at is not None and str(row[time_at]) >= cutoff)]


def records_to_copy(connection: Connection, rows: Sequence[Row], *, turn_id_at: int) -> Sequence[Row]:
    """Return records of turns without those of turns that the target has deleted, or was not given."""
    turn_ids = {row[turn_id_at] for row in rows} - {NO_TURN}
    known = {turn_id for turn_id, turn in turns_with(connection, turn_ids).items() if not turn.is_deleted}
    return [row for row in rows if row[turn_id_at] == NO_TURN or row[turn_id_at] in known]
