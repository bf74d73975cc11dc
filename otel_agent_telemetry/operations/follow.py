"""The end of the journal, and what is appended to it: across days, files that appear later, truncation.

A follower keeps one offset for each day file and looks again when asked; it holds no file
open between two looks, so files may be removed, replaced or created under it.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from otel_agent_telemetry.journal import journal_files
from otel_agent_telemetry.wire import Line, read_line

_BLOCK: Final = 1 << 16
_MAX_LINE: Final = 128 << 20


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which records: those whose `run_id` or `event_id` begins so; "" is every record."""

    beginning: str = ""

    def takes(self, record: Line) -> bool:
        """Whether the record is of such a run."""
        return any(str(record.get(name) or "").startswith(self.beginning) for name in ("run_id", "event_id"))

    @property
    def needle(self) -> str:
        """Text that every line of such a run holds."""
        return needle_of(self.beginning)


def needle_of(text: str) -> str:
    """A text as it stands inside a line: JSON without the quotes."""
    return orjson.dumps(text.encode("utf-8", "replace").decode()).decode()[1:-1]


class JournalFollower:
    """Reads a journal folder on from where it stopped. One thread."""

    def __init__(self, folder: Path, wanted: RunFilter) -> None:
        self._folder = folder
        self._wanted = wanted
        self._offsets: dict[str, int] = {}
        self.torn = 0
        """Torn lines met so far."""

    def last(self, count: int) -> list[Line]:
        """The last `count` records there are now; `look` then goes on behind them. Raises OSError."""
        found: deque[Line] = deque()
        for path in reversed(journal_files(self._folder)):
            size = path.stat().st_size
            self._offsets[path.name] = end = _end_of_last_line(path, size)
            if len(found) < count:
                missing = count - len(found)
                found.extendleft(reversed(self._last_of(path, missing, end)))
        return list(found)

    def _last_of(self, path: Path, count: int, end: int) -> list[Line]:
        """The last records of one file, up to the byte `end`."""
        kept: deque[Line] = deque(maxlen=count)
        needle = self._wanted.needle.encode()
        at = 0 if needle else _start_of_last_lines(path, count, end)
        with path.open("rb", buffering=1 << 20) as stream:
            stream.seek(at)
            while at < end and (raw := stream.readline(_MAX_LINE)):
                at += len(raw)
                if needle in raw:
                    kept.extend(self._records(raw))
        return list(kept)

    def _records(self, raw: bytes) -> Iterator[Line]:
        line = read_line(raw)
        self.torn += line.torn
        return filter(self._wanted.takes, line.records)

    def look(self) -> Iterator[Line]:
        """The records appended since the last look, oldest first. Raises OSError."""
        files = journal_files(self._folder)
        for gone in self._offsets.keys() - {path.name for path in files}:
            del self._offsets[gone]
        for path in files:
            with contextlib.suppress(FileNotFoundError):
                yield from self._read_on(path)

    def _read_on(self, path: Path) -> Iterator[Line]:
        at = self._offsets.get(path.name, 0)
        size = path.stat().st_size
        if size < at:  # another file stands there now
            at = self._offsets[path.name] = 0
        if size == at:
            return
        with path.open("rb", buffering=1 << 20) as stream:
            stream.seek(at)
            while (raw := stream.readline(_MAX_LINE)).endswith(b"\n"):
                self._offsets[path.name] = at = at + len(raw)
                yield from self._records(raw)


def _end_of_last_line(path: Path, size: int) -> int:
    """Where the last complete line ends: behind the last LF."""
    with path.open("rb") as stream:
        end = size
        while end > 0:
            start = max(end - _BLOCK, 0)
            stream.seek(start)
            if (found := stream.read(end - start).rfind(b"\n")) >= 0:
                return start + found + 1
            end = start
    return 0


def _start_of_last_lines(path: Path, count: int, end: int) -> int:
    """Where the last `count` complete lines before the byte `end` begin; reads only those."""
    left = count + 1
    with path.open("rb") as stream:
        at = end
        while at > 0:
            start = max(at - _BLOCK, 0)
            stream.seek(start)
            block = stream.read(at - start)
            found = len(block)
            while (found := block.rfind(b"\n", 0, found)) >= 0:
                left -= 1
                if left == 0:
                    return start + found + 1
            at = start
    return 0
