"""The journal: every run state, event and step, one NDJSON file a UTC day, for ever.

Files are `{ndjson_dir}/events_{YYYYMMDD}.ndjson` in the line format of `wire`; the day is
the writer's when it wrote the line. Any number of threads and processes append to one file.
The journal is what `replay` rebuilds a database from and what an auditor reads; nothing in
this package ever rewrites it.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Final

from otel_agent_telemetry.append import AppendFile, sync_dir
from otel_agent_telemetry.clock import day_of

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
        day.file.write(line)

    def _turn_to(self, now_ns: int) -> _Day:
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
        """Drop the open files; the next line opens them anew. For a forked child."""
        self._day = None
        self._retired.clear()
