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
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

from otel_agent_telemetry.buffer.health import live_counters
from otel_agent_telemetry.buffer.layout import list_writers, read_acknowledged
from otel_agent_telemetry.buffer.segment import read_segment
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.deletion import MARK_EVENTS, Marks, mark_of, read_marks
from otel_agent_telemetry.delivery.rejected import rejected_files
from otel_agent_telemetry.journal import JournalLine, JournalPart, journal_files, read_journal, read_parts
from otel_agent_telemetry.operations.altered_runs import altered_columns
from otel_agent_telemetry.operations.odd_lines import OddLine, repeated_lines, torn_lines
from otel_agent_telemetry.operations.run_ledger import FINDINGS, RunLedger, RunName, run_lines
from otel_agent_telemetry.operations.sequence_ledger import Gap, SequenceLedger
from otel_agent_telemetry.storage.contents import iter_contents
from otel_agent_telemetry.storage.marks import read_marks as read_stored_marks
from otel_agent_telemetry.storage.store import reading_database
from otel_agent_telemetry.wire import Line

Progress = Callable[[int, int], None]
"""Called with the bytes of the journal read so far, and its size in bytes."""

_RETRY_PAUSES_S: Final = (0.05, 0.1, 0.2)
_LOOKED_AT_AGAIN: Final = 20_000
_MOST_REPEATED: Final = 10_000
NOTES: Final = frozenset({"ahead", "unjournalled"})
"""Findings that can be expected; they alone do not make a report fail."""


@dataclass(slots=True, kw_only=True)
class VerifyReport:
    """What was compared and what differs. Lists have the first few runs, counts cover all.

    `torn`: day file → torn lines. `odd_lines`: the first torn and repeated lines.
    `missing`: in the journal, neither stored nor waiting. `refused`: the same, but the target
    rejected it. `older`: the database has an older state. `altered`: it has the same state with
    other content; `columns` has those that differ. `twice`: two runs have one `event_id`.
    `ahead`: the database has a later state (a service's PATCH, or the journal lost its end).
    `undeleted`: stored although it was deleted. `unjournalled`: in the database only (another
    host, an upgrade). `deleted`: runs of the journal that were deleted one by one.
    `compared_with`: the database, "" when runs go to a service.
    """

    lines: int = 0
    writers: int = 0
    journalled: int = 0
    waiting: int = 0
    stored: int = 0
    deleted: int = 0
    missing_lines: int = 0
    repeated_lines: int = 0
    gaps: list[Gap] = field(default_factory=list)
    torn: dict[str, int] = field(default_factory=dict)
    odd_lines: list[OddLine] = field(default_factory=list)
    columns: dict[str, list[str]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FINDINGS, 0))
    runs: dict[str, list[RunName]] = field(default_factory=lambda: {name: [] for name in FINDINGS})
    compared_with: str = ""

    @property
    def ok(self) -> bool:
        """Return whether nothing is missing, torn or outdated."""
        problems = sum(number for name, number in self.counts.items() if name not in NOTES)
        return not (self.missing_lines or self.repeated_lines or self.torn or problems)


def verify(config: TelemetryConfig, *, limit: int = 20, on_progress: Progress | None = None) -> VerifyReport:
    """Compare what was issued, journalled and stored, and return the differences. Changes nothing.

    `limit` bounds every list of the report (default 20). When runs go to a configured
    service, the database is left out. Raises StorageError when the database cannot be read,
    OSError when a folder cannot.
    """
    with _scratch() as scratch:
        return _Verification(config, scratch, on_progress).report(limit)


@contextmanager
def _scratch() -> Iterator[sqlite3.Connection]:
    """Yield a database without a name, which SQLite keeps in a temporary file and removes."""
    with closing(sqlite3.connect("", isolation_level=None)) as connection:
        # Nothing is ever rolled back, and a crash removes the file.
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("BEGIN")
        yield connection


class _Verification:
    """One call of `verify`."""

    def __init__(self, config: TelemetryConfig, scratch: sqlite3.Connection, on_progress: Progress | None) -> None:
        self._config = config
        self._on_progress = on_progress
        self._runs = RunLedger(scratch)
        self._sequences = SequenceLedger(scratch)
        self._report = VerifyReport()
        self._marks = Marks()
        self._read_to: dict[Path, int] = {}

    def report(self, limit: int) -> VerifyReport:
        """Read everything in the order that the module describes, and return the report."""
        report = self._report
        self._read_issued_numbers()
        self._read_journal()
        self._read_buffer()
        self._read_rejected()
        if self._config.api_url is None:
            self._read_database()
        self._read_new_end()
        self._await_lines_in_progress()
        self._read_tails()
        self._marks.update(read_marks(self._config.ndjson_dir))
        self._runs.deleted(self._marks)
        report.deleted = len(self._marks.deleted)
        if report.compared_with:
            self._look_again(limit)
            for name, found in self._runs.findings(limit=limit).items():
                report.counts[name], report.runs[name] = found
        report.journalled, report.stored = self._runs.count("journalled"), self._runs.count("stored")
        report.waiting, report.writers = self._runs.count("waiting"), self._sequences.writers()
        for gap in self._gaps():
            report.missing_lines += gap.lines
            if len(report.gaps) < limit:
                report.gaps.append(gap)
        self._find_odd_lines(limit)
        return report

    def _read_issued_numbers(self) -> None:
        """Note the highest number that each live writer reports in its lock file."""
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
            self._read_to[path] = 0
            for part in self._parts_up_to(path, size):
                self._add(path, part)
                if self._on_progress is not None:
                    self._on_progress(done + self._read_to[path], total)
            done += size
        self._sequences.issue_seen()

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
        for record in part.records:
            if record.get("event_type") in MARK_EVENTS:
                self._marks.add(mark_of(record))

    def _count_torn(self, path: Path, number: int) -> None:
        """Count torn lines under the name of their file."""
        if number:
            self._report.torn[path.name] = self._report.torn.get(path.name, 0) + number

    def _read_new_end(self) -> None:
        """Read the lines that were appended since: only their numbers count, because they can fill a gap."""
        for path in journal_files(self._config.ndjson_dir):
            self._read_to.setdefault(path, 0)
            size = path.stat().st_size
            for part in self._parts_up_to(path, size):
                self._count_torn(path, part.torn)
                self._sequences.saw(part.records)

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

    def _read_database(self) -> None:
        """Add the rows of the database and note its name."""
        with reading_database(self._config) as connection:
            if connection is not None:
                self._runs.stored(iter_contents(connection))
                # After the rows: a run that is deleted in between has its mark by then.
                self._marks.update(read_stored_marks(connection))
        self._report.compared_with = (
            "the configured database" if self._config.database_url else str(self._config.db_path)
        )

    def _look_again(self, limit: int) -> None:
        """Compare the runs whose contents differ column by column; note those that differ in spelling alone."""
        after = ""
        while event_ids := self._runs.differing(after=after, limit=_LOOKED_AT_AGAIN):
            after = event_ids[-1]
            with reading_database(self._config) as connection:
                if connection is None:
                    return
                altered = altered_columns(connection, tuple(self._read_to), event_ids)
            self._runs.unaltered(set(event_ids) - altered.keys())
            room = max(limit - len(self._report.columns), 0)
            self._report.columns.update(dict(sorted(altered.items())[:room]))

    def _find_odd_lines(self, limit: int) -> None:
        """Name the first torn and repeated lines by file and number."""
        repeated = self._sequences.repeated(limit=_MOST_REPEATED)
        self._report.repeated_lines = sum(map(len, repeated.values()))
        torn = (line for path in self._read_to if path.name in self._report.torn for line in torn_lines(path))
        self._report.odd_lines = list(islice(chain(torn, repeated_lines(self._read_to, repeated)), limit))

    def _gaps(self) -> Iterator[Gap]:
        """Yield the gaps, without lines that a writer wrote on days whose files were deleted."""
        files = journal_files(self._config.ndjson_dir)
        first_day = files[0].stem.removeprefix("events_") if files else ""
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


def report_object(report: VerifyReport) -> dict[str, Any]:
    """Return the report as an object for `--json`."""
    names = (
        *("lines", "writers", "journalled", "waiting", "stored", "deleted", "missing_lines", "repeated_lines"),
        *("torn", "compared_with"),
    )
    return {
        "ok": report.ok,
        **{name: getattr(report, name) for name in names},
        "odd_lines": [asdict(line) for line in report.odd_lines],
        "columns": report.columns,
        "gaps": [{"writer": gap.writer, "first": gap.first, "last": gap.last} for gap in report.gaps],
        **{
            name: {"count": report.counts[name], "runs": [_run_object(run) for run in report.runs[name]]}
            for name in FINDINGS
        },
    }


def _run_object(run: RunName) -> dict[str, str]:
    """Return a run of a finding as an object for `--json`."""
    return {"event_id": run.event_id, "run_id": run.run_id}
