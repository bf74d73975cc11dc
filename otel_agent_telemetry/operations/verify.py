"""Verifying that nothing is missing between issued lines, journal, buffer and database (invariant 7).

Every line has its writer and a number, so a missing line shows as a gap. Every run of the
journal must be in the database with a state at least as late, or wait in the buffer. What is
compared is kept in a temporary SQLite database: memory stays bounded, and the temporary folder
needs about 150 bytes for each run.

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
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from otel_agent_telemetry.buffer.health import live_counters
from otel_agent_telemetry.buffer.layout import list_writers, read_acknowledged
from otel_agent_telemetry.buffer.segment import read_segment
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.rejected import rejected_files
from otel_agent_telemetry.journal import JournalLine, JournalPart, journal_files, read_journal, read_parts
from otel_agent_telemetry.operations.run_ledger import FINDINGS, Gap, RunLedger, RunName, SequenceLedger, run_lines
from otel_agent_telemetry.storage.queries import iter_states
from otel_agent_telemetry.storage.store import reading_database
from otel_agent_telemetry.wire import Line

Progress = Callable[[int, int], None]
"""Called with the bytes of the journal read so far, and its size in bytes."""

_RETRY_PAUSES_S: Final = (0.05, 0.1, 0.2)
NOTES: Final = frozenset({"ahead", "unjournalled"})
"""Findings that can be expected; they alone do not make a report fail."""


@dataclass(slots=True, kw_only=True)
class VerifyReport:
    """What was compared and what differs. Lists have the first few runs, counts cover all.

    `torn`: day file → torn lines. `missing`: in the journal, neither stored nor waiting.
    `refused`: the same, but the target rejected it. `older`: the database has an older state.
    `ahead`: it has a later one (a service's PATCH, or the journal lost its end).
    `unjournalled`: in the database only (another host, an upgrade). `compared_with`: the
    database, "" when runs go to a service.
    """

    lines: int = 0
    writers: int = 0
    journalled: int = 0
    waiting: int = 0
    stored: int = 0
    missing_lines: int = 0
    gaps: list[Gap] = field(default_factory=list)
    torn: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FINDINGS, 0))
    runs: dict[str, list[RunName]] = field(default_factory=lambda: {name: [] for name in FINDINGS})
    compared_with: str = ""

    @property
    def ok(self) -> bool:
        """Return whether nothing is missing, torn or outdated."""
        problems = sum(number for name, number in self.counts.items() if name not in NOTES)
        return not (self.missing_lines or self.torn or problems)


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
        if report.compared_with:
            for name, found in self._runs.findings(limit=limit).items():
                report.counts[name], report.runs[name] = found
        report.journalled, report.stored = self._runs.count("journalled"), self._runs.count("stored")
        report.waiting, report.writers = self._runs.count("waiting"), self._sequences.writers()
        for gap in self._gaps():
            report.missing_lines += gap.lines
            if len(report.gaps) < limit:
                report.gaps.append(gap)
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
                self._runs.stored(iter_states(connection))
        self._report.compared_with = (
            "the configured database" if self._config.database_url else str(self._config.db_path)
        )

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
    names = ("lines", "writers", "journalled", "waiting", "stored", "missing_lines", "torn", "compared_with")
    return {
        "ok": report.ok,
        **{name: getattr(report, name) for name in names},
        "gaps": [{"writer": gap.writer, "first": gap.first, "last": gap.last} for gap in report.gaps],
        **{
            name: {"count": report.counts[name], "runs": [_run_object(run) for run in report.runs[name]]}
            for name in FINDINGS
        },
    }


def _run_object(run: RunName) -> dict[str, str]:
    """Return a run of a finding as an object for `--json`."""
    return {"event_id": run.event_id, "run_id": run.run_id}
