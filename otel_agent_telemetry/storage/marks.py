"""Read and store the marks of deletions (`deletion`): receipts of single runs, and the cut-off of a retention.

Owns the tables `deleted_runs` and `retention_cutoffs`. What a deletion removes is in `deletions`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Connection, Row, select

from otel_agent_telemetry.deletion import CutOff, Deletion, Mark, Marks
from otel_agent_telemetry.storage.statements import insert_into, rows_with
from otel_agent_telemetry.storage.tables import deleted_runs, retention_cutoffs
from otel_agent_telemetry.wire import EVENT, RUN

_COLUMNS: Final = ("event_id", "run_id", "deleted_at", "deleted_by", "trace_id")
_receipts: Final = select(*(deleted_runs.c[name] for name in _COLUMNS))
_cutoffs: Final = retention_cutoffs.c


def read_marks(connection: Connection) -> Marks:
    """Return every receipt and the cut-off of runs."""
    return Marks({row.event_id: _receipt(row) for row in connection.execute(_receipts)}, cutoff_of(connection))


def receipts_of(connection: Connection, event_ids: Iterable[str]) -> dict[str, Deletion]:
    """Return `event_id` → receipt, for those of the runs that were deleted one by one."""
    rows = rows_with(connection, _receipts, deleted_runs.c.event_id, event_ids)
    return {row.event_id: _receipt(row) for row in rows}


def page_of_receipts(connection: Connection, *, after: str, limit: int) -> list[Deletion]:
    """Return the receipts behind an `event_id`, in order, at most `limit`."""
    page = _receipts.where(deleted_runs.c.event_id > after).order_by(deleted_runs.c.event_id).limit(limit)
    return [_receipt(row) for row in connection.execute(page)]


def _receipt(row: Row[Any]) -> Deletion:
    """Return the receipt that a row holds."""
    return Deletion(**dict(zip(_COLUMNS, row, strict=True)))


def cutoff_of(connection: Connection) -> CutOff | None:
    """Return the latest cut-off of runs; None when no retention has deleted any."""
    row = connection.execute(select(_cutoffs.cutoff, _cutoffs.applied_at).where(_cutoffs.record_type == RUN)).first()
    return None if row is None else CutOff(cutoff=row.cutoff, applied_at=row.applied_at)


def parts_cutoff_of(connection: Connection) -> str | None:
    """Return the time before which events and steps were deleted for their own age; None when none were."""
    return connection.execute(select(_cutoffs.cutoff).where(_cutoffs.record_type == EVENT)).scalar()


def marks_against(connection: Connection, event_ids: Iterable[str]) -> Marks:
    """Return the marks that can concern states of these runs."""
    return Marks(receipts_of(connection, event_ids), cutoff_of(connection))


def put_marks(connection: Connection, marks: Iterable[Mark]) -> None:
    """Store marks; a receipt that is there stays, and the later cut-off. Deletes nothing."""
    for mark in marks:
        if isinstance(mark, Deletion):
            receipt = {name: getattr(mark, name) for name in _COLUMNS}
            connection.execute(insert_into(deleted_runs, connection.dialect).on_conflict_do_nothing(), receipt)
        else:
            put_cutoff_of(connection, RUN, mark)


def put_cutoff_of(connection: Connection, record_type: str, mark: CutOff) -> None:
    """Store the cut-off of runs (RUN), or of events and steps (EVENT), unless a later one is there."""
    statement = insert_into(retention_cutoffs, connection.dialect)
    new = statement.excluded
    upsert = statement.on_conflict_do_update(
        index_elements=["record_type"],
        set_={"cutoff": new.cutoff, "applied_at": new.applied_at},
        where=new.cutoff > _cutoffs.cutoff,
    )
    values = {"record_type": record_type, "cutoff": mark.cutoff, "applied_at": mark.applied_at}
    connection.execute(upsert, values)
