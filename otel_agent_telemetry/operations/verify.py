"""Verifying that nothing is missing between issued lines, journal, buffer and database (invariant 7).

Every line has its writer and a number, so a missing line shows as a gap, and one that was added
or changed as a number that occurs twice. Every run of the journal must be in the database with
the same content or a later state, or wait in the buffer, unless it was deleted (`deletion`). What
is compared is kept in a temporary SQLite database: memory stays bounded, and the temporary folder
needs about 250 bytes for each run.

Other processes may write meanwhile. So the order matters: first the numbers that writers
report, then the journal up to the size it has then, the buffer, the database, and last the
journal's new end, which has the lines that were being written. A state is buffered before it
is journalled, so every state of the journal is found waiting or stored.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Final

from otel_agent_telemetry.buffer.health import live_counters, read_health
from otel_agent_telemetry.buffer.layout import list_writers, read_acknowledged
from otel_agent_telemetry.buffer.segment import read_segment
from otel_agent_telemetry.clock import SystemClock, day_of
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.deletion import read_marks
from otel_agent_telemetry.delivery.rejected import rejected_files
from otel_agent_telemetry.delivery.stats import service_with_runs
from otel_agent_telemetry.journal import (
    JournalLine,
    JournalPart,
    day_of_file,
    is_compressed,
    journal_files,
    read_journal,
    read_parts,
)
from otel_agent_telemetry.operations.altered_runs import StoredRuns, altered_columns, stored_runs
from otel_agent_telemetry.operations.compare_service import ServiceComparison
from otel_agent_telemetry.operations.line_ledger import LineLedger
from otel_agent_telemetry.operations.odd_lines import repeated_lines, torn_lines
from otel_agent_telemetry.operations.run_ledger import RunLedger, digested, run_lines
from otel_agent_telemetry.operations.sequence_ledger import Gap, SequenceLedger
from otel_agent_telemetry.operations.verify_report import VerifyReport
from otel_agent_telemetry.storage.contents import iter_contents
from otel_agent_telemetry.storage.deliverers import list_deliverers
from otel_agent_telemetry.storage.marks import cutoff_of
from otel_agent_telemetry.storage.marks import read_marks as read_stored_marks
from otel_agent_telemetry.storage.store import reading_database
from otel_agent_telemetry.wire import Line

Progress = Callable[[int, int], None]
"""Called with the bytes of the journal read so far, and its size in bytes."""

_SCRATCH_CACHE_KIB: Final = 64 << 10
_RETRY_PAUSES_S: Final = (0.05, 0.1, 0.2)
_DAY_NS: Final = 86_400 * 1_000_000_000
_LOOKED_AT_AGAIN: Final = 20_000
_MOST_REPEATED: Final = 10_000


def verify(config: TelemetryConfig, *, limit: int = 20, on_progress: Progress | None = None) -> VerifyReport:
    """Compare what was issued, journalled and stored, and return the differences. Changes nothing.

    `limit` bounds every list of the report (default 20). Runs that go to a service are compared
    with it, and so are their events and steps; one that cannot be read is `not_compared`. Raises
    StorageError when the database cannot be read, OSError when a folder cannot.
    """
    with _scratch() as scratch:
        return _Verification(config, scratch, on_progress).report(limit)


@contextmanager
def _scratch() -> Iterator[sqlite3.Connection]:
    """Yield a database without a name, which SQLite keeps in a temporary file and removes."""
    with closing(sqlite3.connect("", isolation_level=None)) as connection:
        # Nothing is ever rolled back, and a crash removes the file.
        connection.execute("PRAGMA journal_mode=OFF")
        # The default of 2 MB would write a page of 100,000 runs to the file for nearly each run that is looked up.
        connection.execute(f"PRAGMA cache_size=-{_SCRATCH_CACHE_KIB}")
        connection.execute("BEGIN")
        yield connection


class _Verification:
    """One call of `verify`."""

    def __init__(self, config: TelemetryConfig, scratch: sqlite3.Connection, on_progress: Progress | None) -> None:
        self._config = config
        self._on_progress = on_progress
        url = service_with_runs(config)
        self._service = None if url is None else ServiceComparison(url, config)
        self._marks = read_marks(config.ndjson_dir)
        self._runs = RunLedger(
            scratch,
            summary_of=None if url is None else digested,
            has_cutoff=url is not None or self._marks.cutoff is not None or self._has_stored_cutoff(),
        )
        # Where a service takes states alone, events and steps are the journal's.
        has_lines = url is not None and config.deliver == "all" and read_health(config.buffer_dir).takes_lines
        self._lines = LineLedger(scratch, config) if has_lines else None
        self._sequences = SequenceLedger(scratch)
        self._report = VerifyReport()
        self._read_to: dict[Path, int] = {}
        self._archives: list[Path] = []

    def _has_stored_cutoff(self) -> bool:
        """Return whether a retention has deleted runs of the database, of which the journal here may not know."""
        with reading_database(self._config) as connection:
            return connection is not None and cutoff_of(connection) is not None

    def report(self, limit: int) -> VerifyReport:
        """Read everything in the order that the module describes, and return the report."""
        report = self._report
        self._read_issued_numbers()
        self._read_journal()
        self._read_buffer()
        self._read_rejected()
        if self._service is None:
            self._read_database()
        else:
            self._marks.update(self._service.read(self._runs, self._lines))
            report.compared_with = self._service.name
        self._read_new_end()
        self._await_lines_in_progress()
        self._read_tails()
        self._marks.update(self._runs.marks)
        # Read once more at the end: a run that was deleted during the reading must not be reported as missing.
        self._marks.update(read_marks(self._config.ndjson_dir))
        self._runs.deleted(self._marks)
        report.deleted = len(self._marks.deleted)
        self._look_again(limit)
        report.not_compared = "" if self._service is None else self._service.problem
        if not report.not_compared:
            for name, found in self._runs.findings(limit=limit).items():
                report.counts[name], report.runs[name] = found
        report.journalled, report.stored = self._runs.count("journalled"), self._runs.count("stored")
        report.waiting, report.writers = self._runs.count("waiting"), self._sequences.writers()
        for gap in self._gaps():
            report.missing_lines += gap.lines
            if len(report.gaps) < limit:
                report.gaps.append(gap)
        self._find_odd_lines(limit)
        self._report_lines(limit)
        report.not_compared = report.not_compared or self._silent_hosts()
        return report

    def _report_lines(self, limit: int) -> None:
        """Report the events and steps that the service lacks, or has with another content."""
        found = None if self._service is None else self._service.lines
        if found is None or self._lines is None:
            return
        report, lines = self._report, self._lines
        report.lines_compared, report.lines_cut_short = len(lines), found.is_cut_short
        for name, ranges in (("missing", found.missing), ("altered", found.altered)):
            for line in chain.from_iterable(map(lines.lines, ranges)):
                report.line_counts[name] += 1
                if report.line_counts[name] <= limit:
                    report.line_findings[name].append(line)

    def _silent_hosts(self) -> str:
        """Return which hosts have not delivered everything and are not heard of any more; "" when none."""
        now_ns = SystemClock.now_ns()
        silent = [host for host in self._report.hosts if host.is_silent(now_ns)]
        return "; ".join(
            f"{host.host} was last heard of at {host.last_seen}, with {host.backlog_records} records and "
            f"{host.open_runs} open runs left"
            for host in silent
        )

    def _read_issued_numbers(self) -> None:
        """Note the highest number that each writer reports in its lock file, or left behind when it ended."""
        for writer, number in read_health(self._config.buffer_dir).issued.items():
            if isinstance(number, int):
                self._sequences.issued(writer, number)
        for writer, identity in live_counters(self._config.buffer_dir).items():
            counters = identity.get("counters")
            issued = counters.get("last_seq") if isinstance(counters, dict) else None
            if isinstance(issued, int):
                self._sequences.issued(writer, issued)

    def _read_journal(self) -> None:
        """Read each day file up to the size it has when this begins."""
        # All sizes first: what is appended later is read by `_read_new_end`.
        sizes = {path: path.stat().st_size for path in journal_files(self._config.ndjson_dir)}
        total, done = sum(sizes.values()), 0
        for path, size in sizes.items():
            if is_compressed(path):
                self._read_archive(path)
                done += size
                continue
            self._read_to[path] = 0
            for part in self._parts_by_confirmation(path, size):
                self._add(path, part)
                if self._on_progress is not None:
                    self._on_progress(done + self._read_to[path], total)
            done += size
        self._sequences.issue_seen()

    def _read_archive(self, path: Path) -> None:
        """Read a compressed day as a whole: nothing is appended to it."""
        self._archives.append(path)
        is_confirmed = self._lines is not None and self._lines.confirmed(path) > 0
        for part in read_parts(path):
            self._add(path, part)
            if self._lines is not None:
                (self._lines.delivered if is_confirmed else self._lines.later)(part.records)

    def _parts_by_confirmation(self, path: Path, size: int) -> Iterator[JournalPart]:
        """Yield the lines up to `size`; note which events and steps the service has confirmed, and which follow."""
        if self._lines is not None:
            for part in self._parts_up_to(path, min(self._lines.confirmed(path), size)):
                self._lines.delivered(part.records)
                yield part
        for part in self._parts_up_to(path, size):
            if self._lines is not None:
                self._lines.later(part.records)
            yield part

    def _parts_up_to(self, path: Path, size: int) -> Iterator[JournalPart]:
        """Yield the next lines that end within `size`, without a last line that has no LF: it may be in the making."""
        for part in read_parts(path, offset=self._read_to[path], end=size):
            self._read_to[path] += part.size
            yield part

    def _add(self, path: Path, part: JournalPart | JournalLine) -> None:
        """Count lines, note their numbers, and add their run states."""
        self._report.lines += len(part.records)
        self._count_torn(path, part.torn)
        self._sequences.saw(part.records)
        self._runs.journalled(part.records)

    def _count_torn(self, path: Path, number: int) -> None:
        """Count torn lines under the name of their file."""
        if number:
            self._report.torn[path.name] = self._report.torn.get(path.name, 0) + number

    def _read_new_end(self) -> None:
        """Read the lines that were appended since: only their numbers count, because they can fill a gap."""
        for path in journal_files(self._config.ndjson_dir):
            if is_compressed(path):
                continue
            self._read_to.setdefault(path, 0)
            size = path.stat().st_size
            for part in self._parts_up_to(path, size):
                self._count_torn(path, part.torn)
                self._sequences.saw(part.records)
                if self._lines is not None:
                    self._lines.later(part.records)

    def _await_lines_in_progress(self) -> None:
        """Read again after short pauses: a thread may have taken a number and not have written its line yet."""
        for pause_s in _RETRY_PAUSES_S:
            if next(self._gaps(), None) is None and not any(line.torn for line in self._tails().values()):
                return
            time.sleep(pause_s)
            self._read_new_end()

    def _tails(self) -> dict[Path, JournalLine]:
        """Return day file → its last line, where that has no LF."""
        last_lines = {
            path: line
            for path, offset in self._read_to.items()
            if offset < path.stat().st_size
            for line in islice(read_journal(path, offset=offset), 1)
        }
        # A line with LF was appended just now.
        return {path: line for path, line in last_lines.items() if not line.ended}

    def _read_tails(self) -> None:
        """Add the last lines without LF: torn, with the records that can be read from them, or whole but for the LF."""
        for path, line in self._tails().items():
            self._add(path, line)
            for record in line.records:
                self._sequences.issued(*_numbered(record))

    def _read_buffer(self) -> None:
        """Add the run states of the buffer that are not confirmed yet."""
        for files in list_writers(self._config.buffer_dir):
            for _, segment in files.segments:
                # With an incomplete last line: a writer that died may have left one.
                for line in read_segment(segment, offset=read_acknowledged(segment), to_the_end=True):
                    self._runs.waiting(run_lines(line.records))

    def _read_rejected(self) -> None:
        """Add the run states that the target rejected."""
        for path in rejected_files(self._config.buffer_dir):
            for line in read_segment(path, to_the_end=True):
                self._runs.refused(run_lines(line.records))
                if self._lines is not None:
                    self._report.line_counts["refused"] += self._lines.refused(line.records)

    def _read_database(self) -> None:
        """Add the rows of the database and note its name."""
        with reading_database(self._config) as connection:
            if connection is not None:
                self._runs.stored(iter_contents(connection))
                # After the rows: a run that is deleted in between has its mark by then.
                self._marks.update(read_stored_marks(connection))
                self._report.hosts = list_deliverers(connection)
        self._report.compared_with = (
            "the configured database" if self._config.database_url else str(self._config.db_path)
        )

    def _look_again(self, limit: int) -> None:
        """Compare the runs whose contents differ column by column; note those that differ in spelling alone."""
        after = ""
        while event_ids := self._runs.differing(after=after, limit=_LOOKED_AT_AGAIN):
            after = event_ids[-1]
            stored = self._stored_runs(event_ids)
            altered = altered_columns(stored, (*self._archives, *self._read_to))
            self._runs.unaltered({record.event_id for record in stored.records} - altered.keys())
            room = max(limit - len(self._report.columns), 0)
            self._report.columns.update(dict(sorted(altered.items())[:room]))

    def _stored_runs(self, event_ids: list[str]) -> StoredRuns:
        """Return the runs where they are stored."""
        if self._service is not None:
            return self._service.records(event_ids)
        with reading_database(self._config) as connection:
            return StoredRuns(()) if connection is None else stored_runs(connection, event_ids)

    def _find_odd_lines(self, limit: int) -> None:
        """Name the first torn and repeated lines by file and number."""
        repeated = self._sequences.repeated(limit=_MOST_REPEATED)
        self._report.repeated_lines = sum(map(len, repeated.values()))
        files = [*self._archives, *self._read_to]
        torn = (line for path in files if path.name in self._report.torn for line in torn_lines(path))
        self._report.odd_lines = list(islice(chain(torn, repeated_lines(files, repeated)), limit))

    def _gaps(self) -> Iterator[Gap]:
        """Yield the gaps, without lines that a writer wrote on days whose files were deleted."""
        files = journal_files(self._config.ndjson_dir)
        first_day = day_of_file(files[0]) if files else day_of(SystemClock.now_ns() - _DAY_NS)
        for gap in self._sequences.gaps():
            # A writer id begins with its start; older lines can be in files that retention deleted.
            if gap.first > 1 or gap.writer[:8] >= first_day:
                yield gap


def _numbered(record: Line) -> tuple[str, int]:
    """Return the writer and the number of a line; `("", 0)` when it has none."""
    writer, number = record.get("writer"), record.get("seq")
    if isinstance(writer, str) and isinstance(number, int) and number > 0:
        return writer, number
    return "", 0
