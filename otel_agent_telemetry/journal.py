"""The journal: every run state, event and step, one NDJSON file a UTC day, for ever.

Files are `{ndjson_dir}/events_{YYYYMMDD}.ndjson` in the line format of `wire`; the day is
the writer's when it wrote the line. Any number of threads and processes append to one file.
The journal is what `replay` rebuilds a database from and what an auditor reads; nothing in
this package ever rewrites it.

Reading the journal back: by day, by run, the last sign of life of a writer, and live.

Everything streams; a day file of any size is read in bounded memory. Torn lines are counted
and what can be believed of them is returned, as `wire.read_line` says.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otel_agent_telemetry.append import AppendFile, LostDescriptorError, sync_dir
from otel_agent_telemetry.clock import day_of
from otel_agent_telemetry.patterns import lazy
from otel_agent_telemetry.wire import Line, read_line

_DAY_NS: Final = 86_400 * 1_000_000_000


def journal_path(folder: Path, day: str) -> Path:
    """The file of a UTC day given as `YYYYMMDD`."""
    return folder / f"events_{day}.ndjson"


class _Day:
    """The file in use and the instants that belong into it."""

    __slots__ = ("ends_ns", "file", "starts_ns")

    def __init__(self, folder: Path, now_ns: int) -> None:
        self.starts_ns = now_ns - now_ns % _DAY_NS
        self.ends_ns = self.starts_ns + _DAY_NS
        self.file = AppendFile(journal_path(folder, day_of(now_ns)))


class Journal:
    """Appends lines to the day's file. Safe under threads, without a lock; opens nothing until used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._day: _Day | None = None
        self._retired: deque[tuple[AppendFile, int]] = deque()

    def append(self, line: bytes, *, now_ns: int) -> None:
        """Write one line; on return it survives the death of the process. Raises OSError."""
        day = self._day
        if day is None or not day.starts_ns <= now_ns < day.ends_ns:
            day = self._turn_to(now_ns)
        try:
            day.file.write(line)
        except LostDescriptorError:  # other code of the process closed it; the file itself is still there
            self._turn_to(now_ns).file.write(line)

    def _turn_to(self, now_ns: int) -> _Day:
        """Open the file of a day and write to it from now on."""
        previous, day = self._day, _Day(self.folder, now_ns)
        self._day = day
        if previous is not None:
            self._retired.append((previous.file, 2))
        return day

    def sync(self) -> None:
        """Force everything to the disk and leave files that someone removed. Blocks. Raises OSError.

        A retired file is synced twice, a second apart, for a thread that was still in `append`.
        """
        for _ in range(len(self._retired)):
            file, rounds = self._retired.popleft()
            with contextlib.suppress(LostDescriptorError):
                file.sync()
            if rounds > 1:
                self._retired.append((file, rounds - 1))
        day = self._day
        if day is None:
            return
        if day.file.replaced():
            self._day = None
            self._retired.append((day.file, 2))
            return
        if day.file.dirty:
            day.file.sync()
            sync_dir(self.folder)

    def forget(self) -> None:
        """Close the files; the next line opens them anew. In a forked child, the parent's stay open."""
        self._day = None
        self._retired.clear()


_NAME: Final = lazy(r"events_(\d{8})\.ndjson")
_MAX_LINE: Final = 128 << 20
_TIME_MEMBERS: Final = ("timestamp", "end_time", "updated_at", "start_time")


@dataclass(frozen=True, slots=True)
class JournalLine:
    """One physical line: its records, its length in bytes, and whether it was torn."""

    records: tuple[Line, ...]
    size: int
    torn: bool


def journal_files(folder: Path, *, first_day: str = "", last_day: str = "99999999") -> list[Path]:
    """The day files between two UTC days (`YYYYMMDD`, inclusive), oldest first."""
    if not folder.is_dir():
        return []
    return sorted(
        path for path in folder.iterdir() if (name := _NAME.fullmatch(path.name)) and first_day <= name[1] <= last_day
    )


def read_journal(path: Path, *, containing: str = "", offset: int = 0) -> Iterator[JournalLine]:
    """The lines of one day file; with `containing`, only those whose bytes hold that text.

    A last line without LF is returned too when it is whole. Raises OSError.
    """
    needle = containing.encode("utf-8", "replace")
    with path.open("rb", buffering=1 << 20) as stream:
        stream.seek(offset)
        while raw := stream.readline(_MAX_LINE):
            if needle and needle not in raw:
                continue
            line = read_line(raw)
            yield JournalLine(line.records, len(raw), line.torn)


def lines_of_run(folder: Path, *, event_id: str, first_day: str = "", last_day: str = "99999999") -> Iterator[Line]:
    """Every record of one run, in the order in which it was written."""
    for path in journal_files(folder, first_day=first_day, last_day=last_day):
        for line in read_journal(path, containing=event_id):
            yield from (record for record in line.records if record.get("event_id") == event_id)


def last_activity_times(folder: Path, *, writer: str, first_day: str, max_bytes: int = 256 << 20) -> dict[str, str]:
    """`event_id` → the latest time (our ISO text) in any line that the writer left about that run.

    Reads at most the last `max_bytes` of each day from `first_day` on.
    """
    signs: dict[str, str] = {}
    for path in journal_files(folder, first_day=first_day):
        offset = max(path.stat().st_size - max_bytes, 0)
        for line in read_journal(path, containing=writer, offset=offset):
            for record in line.records:
                if record.get("writer") == writer and (run := record.get("event_id")):
                    signs[run] = max(signs.get(run, ""), time_of(record))
    return signs


def time_of(record: Line) -> str:
    """When the thing that a line tells of happened; "" when it does not say."""
    return max((str(record.get(name) or "") for name in _TIME_MEMBERS), default="")
