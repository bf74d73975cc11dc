"""Rebuilding or repairing the database from the journal's run states and commit associations.

The journal has every state that was ever buffered, and each state decides by itself whether
it is later than another (invariant 2). So replaying it once or ten times, into an empty
database or into the one in use, ends in the same rows. What a service's PATCH changed, and
events and steps that it received over OTLP, are not in the journal. Runs that were deleted stay
deleted (`deletion`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from otel_agent_telemetry.columns import POSTING_COLUMNS, Fields
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.deletion import MARK_EVENTS, Marks, mark_of, read_marks
from otel_agent_telemetry.delivery.outcome import Batch, Delivered, Outcome, deliver_bisected, link_line
from otel_agent_telemetry.delivery.suppress_instrumentation import suppress_instrumentation
from otel_agent_telemetry.errors import RecordError, SchemaError, StorageError, StoreUnavailableError
from otel_agent_telemetry.journal import JournalPart, journal_files, read_parts
from otel_agent_telemetry.model import CommitLink
from otel_agent_telemetry.run_state import checked_state, merged_state
from otel_agent_telemetry.status import RUNNING
from otel_agent_telemetry.storage.deletions import apply_marks
from otel_agent_telemetry.storage.marks import cutoff_of
from otel_agent_telemetry.storage.row_retention import delete_old
from otel_agent_telemetry.storage.schema import SchemaReport
from otel_agent_telemetry.storage.store import Store
from otel_agent_telemetry.storage.writer_lock import WriterLock
from otel_agent_telemetry.wire import COMMIT_EVENT, EVENT, RUN, Line

_MAX_BATCH_RECORDS: Final = 5000
_MAX_BATCH_BYTES: Final = 8 << 20
_NEVER_IN_A_START: Final = frozenset(POSTING_COLUMNS)
"""Of these the greater value is kept, whichever state stands."""

Progress = Callable[[int, int], None]
"""Called with the bytes of the journal read so far, and all of them."""


@dataclass(slots=True, kw_only=True)
class ReplayReport:
    """What a replay read and wrote.

    `states` are run lines; `inserted`, `updated` and `unchanged` count the runs of each batch
    (a run whose states are in several batches counts in each). `unlinked` are commit
    associations whose run is not stored yet. `deleted` are runs that the journal has and that were
    deleted: they are not stored, and were deleted where they were. `reasons` are those of the first ten refused
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
    deleted: int = 0
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
        self._runs: dict[str, Fields] = {}
        self._begun: dict[str, Line] = {}
        """`event_id` → the first state of a run of the batch, not checked yet, while it has no other."""
        self._links: list[CommitLink] = []
        self._marks = Marks()
        """Marks of deletions that were read and not stored yet."""
        self.name = self._store.name

    def run(self, first_day: str, last_day: str) -> ReplayReport:
        """Create or upgrade the database, read the files, and return the report."""
        files = journal_files(self._folder, first_day=first_day, last_day=last_day)
        total = sum(path.stat().st_size for path in files)
        try:
            self._report.schema = self._store.open()
            # Before the first state: what was deleted must not be stored even for a moment.
            self._marks = read_marks(self._folder)
            for path in files:
                self._read(path, total)
            self._write()
            self._delete_old()
        finally:
            self._store.close()
        return self._report

    def _read(self, path: Path, total: int) -> None:
        """Read one day file and write batches as they become full."""
        self._report.files += 1
        for part in read_parts(path):
            self._add(part)
            # Both bounds: a few runs can have megabytes of text.
            if (
                len(self._runs) + len(self._begun) + len(self._links) >= _MAX_BATCH_RECORDS
                or self._bytes >= _MAX_BATCH_BYTES
            ):
                self._write()
            if self._on_progress is not None:
                self._on_progress(self._report.bytes, max(total, self._report.bytes))

    def _add(self, part: JournalPart) -> None:
        """Add lines to the current batch."""
        self._report.torn += part.torn
        self._report.bytes += part.size
        self._bytes += part.size
        for record in part.records:
            try:
                if record["record_type"] == RUN:
                    self._add_state(record)
                elif record["record_type"] == EVENT and record.get("event_type") == COMMIT_EVENT:
                    self._report.commits += 1
                    self._links.append(CommitLink.from_event(record))
                elif record.get("event_type") in MARK_EVENTS:
                    self._marks.add(mark_of(record))
            except RecordError as problem:
                self._report.refuse(str(problem))

    def _add_state(self, record: Line) -> None:
        """Add a state to the current batch; of a run only its latest is kept. Raises RecordError."""
        self._report.states += 1
        event_id = record.get("event_id")
        is_first = type(event_id) is str and event_id not in self._runs and event_id not in self._begun
        if is_first and record.get("status") == RUNNING:
            self._begun[str(event_id)] = record
            return
        state = checked_state(record)
        begun = self._begun.pop(state["event_id"], None)
        # An end stands against any running state, so most of those are never checked.
        if begun is not None and (state["status"] == RUNNING or not _NEVER_IN_A_START.isdisjoint(begun)):
            self._merge(checked_state(begun))
        self._merge(state)

    def _merge(self, state: Fields) -> None:
        """Let a state stand against those of its run in the batch."""
        known = self._runs.get(state["event_id"])
        self._runs[state["event_id"]] = state if known is None else merged_state(known, state)

    def _write(self) -> None:
        """Write the current batch and begin an empty one."""
        for begun in self._begun.values():
            try:
                self._merge(checked_state(begun))
            except RecordError as problem:
                self._report.refuse(str(problem))
        if self._marks:
            marks, self._marks = self._marks, Marks()
            self._report.deleted += self._store.transact(lambda connection: apply_marks(connection, marks))
        states, links = list(self._runs.values()), self._links
        self._runs, self._begun, self._links, self._bytes = {}, {}, [], 0
        try:
            self._store_batch(states, links)
        except (StoreUnavailableError, SchemaError):
            raise
        except StorageError as problem:
            # Halves find the records that the database refuses; their neighbours are written.
            lines = ({"record_type": RUN, **state} for state in states)
            outcome = deliver_bisected(self, Batch((*lines, *map(link_line, links))), str(problem))
            for item in outcome.rejected if isinstance(outcome, Delivered) else ():
                self._report.refuse(item.reason)

    def _delete_old(self) -> None:
        """Delete the runs that a retention had deleted, where they were stored before its cut-off was known."""
        with self._store.reading() as connection:
            cutoff = cutoff_of(connection)
        if cutoff is not None:
            self._report.deleted += delete_old(self._store, cutoff.cutoff).runs

    def _store_batch(self, states: Sequence[Fields], links: Sequence[CommitLink]) -> None:
        """Write in one transaction and count the results. Raises StorageError."""
        if not states and not links:
            return
        result = self._store.write(states, links)
        self._report.inserted += result.count("inserted")
        self._report.updated += result.count("updated")
        self._report.unchanged += result.count("duplicate")
        self._report.deleted += result.count("deleted")
        self._report.unlinked += result.linked.count(False)

    def deliver(self, batch: Batch) -> Outcome:
        """Write a batch, by halves where the database refuses it. Raises StoreUnavailableError, SchemaError."""
        try:
            self._store_batch(batch.states, batch.links)
        except (StoreUnavailableError, SchemaError):
            raise
        except StorageError as problem:
            return deliver_bisected(self, batch, str(problem))
        return Delivered()

    def close(self) -> None:
        """Close the database."""
        self._store.close()
