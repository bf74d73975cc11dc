"""Deleting runs, where they are stored and for every reader of this host's journal.

The database goes first: it knows which runs are inside the run. Then the marks are made durable in
the journal folder, and lines of them appended to today's day file. From then on no command of ours
shows the run's lines, and `replay` passes over them. The lines themselves stay in their day files
until `retention --journal` deletes these, or `purge` overwrites them.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from typing import Final

from otel_agent_telemetry.clock import SystemClock, iso_utc
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.deletion import Deletion, Mark, Marks, append_marks, read_marks
from otel_agent_telemetry.delivery.stats import service_with_runs
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.operations.remote_runs import RemoteRuns
from otel_agent_telemetry.recording.journal_writer import JournalWriter
from otel_agent_telemetry.storage.deletions import apply_marks, delete_run
from otel_agent_telemetry.storage.marks import read_marks as read_stored_marks
from otel_agent_telemetry.storage.store import Store, reading_database

LOCAL_USER: Final = "local command"
"""`deleted_by` of a run that this host's command deleted in the local database."""


def known_receipts(config: TelemetryConfig, wanted: str) -> tuple[Deletion, ...]:
    """Return the receipts on this host of a run that was deleted under this id, and of the runs deleted with it.

    The latest deletion, where several runs had this run id. Raises StorageError, OSError.
    """
    marks = read_marks(config.ndjson_dir)
    with reading_database(config) as connection:
        if connection is not None:
            marks.update(read_stored_marks(connection))
    named = [one.deleted_at for one in marks.deleted.values() if wanted in (one.event_id, one.run_id)]
    together = (one for one in marks.deleted.values() if one.deleted_at == max(named, default=""))
    return tuple(sorted(together, key=lambda one: wanted not in (one.event_id, one.run_id)))


def delete(config: TelemetryConfig, record: RunRecord) -> tuple[Deletion, ...]:
    """Delete a run and the runs inside it where the runs are stored, and for readers of the journal here.

    Returns the receipts, the run's own first, when that is done; none when a service does not
    know the run. Raises StorageError, ConfigurationError and OSError; the same call again
    completes what was interrupted.
    """
    url = service_with_runs(config)
    if url is None:
        receipts = _deleted_here(config, record)
    else:
        with closing(RemoteRuns(url, config)) as remote:
            receipts = tuple(remote.delete(record.event_id))
    note_marks(config, receipts)
    return receipts


def _deleted_here(config: TelemetryConfig, record: RunRecord) -> tuple[Deletion, ...]:
    """Delete in the configured database; of a run that only the journal has, return a new receipt."""
    now = iso_utc(SystemClock.now_ns())
    only_journalled = Deletion(event_id=record.event_id, run_id=record.run_id, deleted_at=now, deleted_by=LOCAL_USER)
    # Raises for a database of another application or schema, which is not to be upgraded by this.
    with reading_database(config) as connection:
        if connection is None:
            return (only_journalled,)
    store = Store(config)
    try:
        receipts = store.transact(
            lambda connection: delete_run(connection, record.event_id, deleted_at=now, deleted_by=LOCAL_USER)
        )
        if not receipts:
            receipts = [only_journalled]
            store.transact(lambda connection: apply_marks(connection, Marks({record.event_id: only_journalled})))
        return tuple(receipts)
    finally:
        store.close()


def note_marks(config: TelemetryConfig, marks: Iterable[Mark]) -> None:
    """Make marks known to every reader of the journal here; on return they are on the disk. Blocks. Raises OSError."""
    noted = tuple(marks)
    if not noted:
        return
    append_marks(config.ndjson_dir, noted)
    journal = JournalWriter(config)
    for mark in noted:
        journal.write_event(mark.to_event())
    journal.sync()
