"""Rebuilding or repairing the database from the journal's run states and commit associations.

The journal has every state that was ever buffered, and each state decides by itself whether
it is later than another (invariant 2). So replaying it once or ten times, into an empty
database or into the one in use, ends in the same rows. What a service's PATCH changed, and
events and steps that it received over OTLP, are not in the journal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.outcome import Batch, Delivered, Outcome, deliver_bisected
from otel_agent_telemetry.delivery.suppress_instrumentation import suppress_instrumentation
from otel_agent_telemetry.errors import RecordError, SchemaError, StorageError, StoreUnavailableError
from otel_agent_telemetry.journal import journal_files, read_journal
from otel_agent_telemetry.model import COMMIT_EVENT, CommitLink, RunRecord, later_state
from otel_agent_telemetry.storage.schema import SchemaReport
from otel_agent_telemetry.storage.store import Store
from otel_agent_telemetry.storage.writer_lock import WriterLock
from otel_agent_telemetry.wire import EVENT, RUN, Line

_MAX_BATCH_RECORDS: Final = 1000
_MAX_BATCH_BYTES: Final = 8 << 20

Progress = Callable[[int, int], None]
"""Called with the bytes of the journal read so far, and all of them."""


@dataclass(slots=True, kw_only=True)
class ReplayReport:
    """What a replay read and wrote.

    `states` are run lines; `inserted`, `updated` and `unchanged` count the runs of each batch
    (a run whose states are in several batches counts in each). `unlinked` are commit
    associations whose run is not stored yet. `reasons` are those of the first ten refused
    records.
    """

    files: int = 0
    bytes: int = 0
    states: int = 0
    commits: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    unlinked: int = 0
    refused: int = 0
    torn: int = 0
    reasons: list[str] = field(default_factory=list)
    schema: SchemaReport | None = None

    def refuse(self, reason: str) -> None:
        """Count a record that cannot be stored."""
        self.refused += 1
        if len(self.reasons) < 10:  # noqa: PLR2004 - the first few
            self.reasons.append(reason)


def replay(
    config: TelemetryConfig,
    *,
    first_day: str = "",
    last_day: str = "99999999",
    on_progress: Progress | None = None,
) -> ReplayReport:
    """Write the journal between two UTC days (`YYYYMMDD`, inclusive) into the configured database.

    The database is created or upgraded first. Raises StoreUnavailableError when it cannot be
    written or another process writes it, SchemaError when it belongs to another application,
    OSError when the journal cannot be read. What was written before that stays.
    """
    # PostgreSQL takes several writers, a SQLite file has one.
    lock = WriterLock(config.db_path) if config.database_url is None else None
    if lock is not None and not lock.try_acquire():
        raise StoreUnavailableError(
            f"writing {config.db_path}: {lock.describe_holder()} writes to it",
            hint="Stop the service first, or replay into another file with --into.",
        )
    try:
        with suppress_instrumentation():
            return _Replay(config, on_progress).run(first_day, last_day)
    finally:
        if lock is not None:
            lock.release()


class _Replay:
    """One call of `replay`. `deliver` makes it a `delivery.outcome.Target`, for batches by halves."""

    def __init__(self, config: TelemetryConfig, on_progress: Progress | None) -> None:
        self._folder = config.ndjson_dir
        self._store = Store(config)
        self._on_progress = on_progress
        self._report = ReplayReport()
        self._bytes = 0
        self._runs: dict[str, RunRecord] = {}
        self._links: list[CommitLink] = []
        self.name = self._store.name

    def run(self, first_day: str, last_day: str) -> ReplayReport:
        """Create or upgrade the database, read the files, and return the report."""
        files = journal_files(self._folder, first_day=first_day, last_day=last_day)
        total = sum(path.stat().st_size for path in files)
        try:
            self._report.schema = self._store.open()
            for path in files:
                self._read(path, total)
            self._write()
        finally:
            self._store.close()
        return self._report

    def _read(self, path: Path, total: int) -> None:
        """Read one day file and write batches as they become full."""
        self._report.files += 1
        for line in read_journal(path):
            for record in line.records:
                self._add(record)
            self._report.torn += line.torn
            self._report.bytes += line.size
            self._bytes += line.size
            # Both bounds: a few runs can have megabytes of text.
            if len(self._runs) + len(self._links) >= _MAX_BATCH_RECORDS or self._bytes >= _MAX_BATCH_BYTES:
                self._write()
            if self._on_progress is not None:
                self._on_progress(self._report.bytes, max(total, self._report.bytes))

    def _add(self, record: Line) -> None:
        """Add a record to the current batch; of a run only its latest state is kept."""
        try:
            if record["record_type"] == RUN:
                self._report.states += 1
                state = RunRecord.from_fields(record)
                known = self._runs.get(state.event_id)
                self._runs[state.event_id] = state if known is None else later_state(known, state)
            elif record["record_type"] == EVENT and record.get("event_type") == COMMIT_EVENT:
                self._report.commits += 1
                self._links.append(CommitLink.from_event(record))
        except RecordError as problem:
            self._report.refuse(str(problem))

    def _write(self) -> None:
        """Write the current batch and begin an empty one."""
        batch = Batch.of(self._runs.values(), self._links)
        self._runs, self._links, self._bytes = {}, [], 0
        outcome = self.deliver(batch) if len(batch) else Delivered()
        for item in outcome.rejected if isinstance(outcome, Delivered) else ():
            self._report.refuse(item.reason)

    def deliver(self, batch: Batch) -> Outcome:
        """Write a batch in one transaction and count the results. Raises StoreUnavailableError, SchemaError."""
        try:
            result = self._store.write(batch.records, batch.links)
        except (StoreUnavailableError, SchemaError):
            raise
        except StorageError as problem:
            # Halves find the records that the database refuses; their neighbours are written.
            return deliver_bisected(self, batch, str(problem))
        self._report.inserted += result.count("inserted")
        self._report.updated += result.count("updated")
        self._report.unchanged += result.count("duplicate")
        self._report.unlinked += result.linked.count(False)
        return Delivered()

    def close(self) -> None:
        """Close the database."""
        self._store.close()
