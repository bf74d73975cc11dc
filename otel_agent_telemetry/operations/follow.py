"""Following the journal: its last records, then what is appended, across days and truncations.

A follower keeps one offset for each day file and reads on when asked. It holds no file open
between two reads, so files may be removed, replaced or created meanwhile.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import orjson

from otel_agent_telemetry.append import end_of_lines
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.deletion import HiddenLines
from otel_agent_telemetry.delivery.stats import service_with_runs
from otel_agent_telemetry.journal import is_compressed, journal_files, read_parts
from otel_agent_telemetry.trusted_files import open_to_read
from otel_agent_telemetry.wire import Line, read_line

_BLOCK: Final = 1 << 16
# A damaged file may have no LF for gigabytes; a longer piece is not read into memory at once.
_MAX_LINE: Final = 128 << 20


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Selects the records whose `run_id` or `event_id` begins with this text; "" selects every record."""

    beginning: str = ""

    def matches(self, record: Line) -> bool:
        """Return whether the record belongs to such a run."""
        return any(str(record.get(name) or "").startswith(self.beginning) for name in ("run_id", "event_id"))

    @property
    def needle(self) -> str:
        """Return the text that every line of such a run contains."""
        return needle_of(self.beginning)


def needle_of(text: str) -> str:
    """Return a text as a journal line contains it: as JSON, without the quotes.

    Lines can be searched for it as bytes, which is much faster than parsing each of them.
    """
    return orjson.dumps(text.encode("utf-8", "replace").decode()).decode()[1:-1]


class Follower(Protocol):
    """What `tail` reads from. `poll_s` is how often it may be asked, in seconds."""

    poll_s: float
    torn: int
    """Torn lines found so far."""

    def last(self, count: int) -> list[Line]:
        """Return the last `count` records; `read_new` then continues after them."""

    def read_new(self) -> Iterator[Line]:
        """Yield the records that came since the last read, oldest first."""

    def close(self) -> None:
        """Release what is held."""


class JournalFollower:
    """Reads a journal folder, each time from where it stopped. Not safe under threads."""

    poll_s = 0.2

    def __init__(self, folder: Path, wanted: RunFilter) -> None:
        self._folder = folder
        self._wanted = wanted
        self._offsets: dict[str, int] = {}
        self._hidden = HiddenLines(folder)
        self.torn = 0
        """Torn lines found so far."""

    def close(self) -> None:
        """Do nothing: no file is open between two reads."""

    def last(self, count: int) -> list[Line]:
        """Return the last `count` records; `read_new` then continues after them. Raises OSError."""
        self._hidden.refresh()
        found: deque[Line] = deque()
        for path in reversed(journal_files(self._folder)):
            if is_compressed(path):
                found.extendleft(reversed(self._last_of_archive(path, count - len(found))))
                continue
            size = path.stat().st_size
            self._offsets[path.name] = end = end_of_lines(path, size=size)
            if len(found) < count:
                missing = count - len(found)
                found.extendleft(reversed(self._last_of(path, missing, end)))
        return list(found)

    def _last_of_archive(self, path: Path, count: int) -> list[Line]:
        """Return the last records of a compressed day, which is read from its beginning."""
        kept: deque[Line] = deque(maxlen=count)
        for part in read_parts(path, containing=self._wanted.needle) if count > 0 else ():
            self.torn += part.torn
            kept.extend(filter(self._shown, part.records))
        return list(kept)

    def _last_of(self, path: Path, count: int, end: int) -> list[Line]:
        """Return the last records of one file, up to the byte `end`."""
        kept: deque[Line] = deque(maxlen=count)
        needle = self._wanted.needle.encode()
        # With a filter, how far back the last matching records are is not known.
        at = 0 if needle else _start_of_last_lines(path, count, end)
        with open_to_read(path) as stream:
            stream.seek(at)
            while at < end and (raw := stream.readline(_MAX_LINE)):
                at += len(raw)
                if needle in raw:
                    kept.extend(self._records(raw))
        return list(kept)

    def _records(self, raw: bytes) -> Iterator[Line]:
        """Yield the selected records of one line; counts a torn line."""
        line = read_line(raw)
        self.torn += line.torn
        return filter(self._shown, line.records)

    def _shown(self, record: Line) -> bool:
        """Return whether a record is selected, and not of a deleted run."""
        return self._wanted.matches(record) and self._hidden.allow(record)

    def read_new(self) -> Iterator[Line]:
        """Yield the records appended since the last read, oldest first. Raises OSError."""
        self._hidden.refresh()
        # A day that is compressed meanwhile was read before.
        files = [path for path in journal_files(self._folder) if not is_compressed(path)]
        for removed in self._offsets.keys() - {path.name for path in files}:
            del self._offsets[removed]
        for path in files:
            # Retention can delete a day file between the listing and the read.
            with contextlib.suppress(FileNotFoundError):
                yield from self._read_on(path)

    def _read_on(self, path: Path) -> Iterator[Line]:
        """Yield what was appended to one file. An incomplete last line is read the next time."""
        at = self._offsets.get(path.name, 0)
        size = path.stat().st_size
        if size < at:  # the file was truncated or replaced
            at = self._offsets[path.name] = 0
        if size == at:
            return
        with open_to_read(path) as stream:
            stream.seek(at)
            # A line without LF is still being written.
            while (raw := stream.readline(_MAX_LINE)).endswith(b"\n"):
                self._offsets[path.name] = at = at + len(raw)
                yield from self._records(raw)


def _start_of_last_lines(path: Path, count: int, end: int) -> int:
    """Return the offset where the last `count` complete lines before `end` begin; reads only those lines."""
    left = count + 1
    with open_to_read(path, buffering=0) as stream:
        at = end
        while at > 0:
            start = max(at - _BLOCK, 0)
            stream.seek(start)
            block = stream.read(at - start)
            found = len(block)
            # One line more than is wanted: its LF is where the first of the wanted ones begins.
            while (found := block.rfind(b"\n", 0, found)) >= 0:
                left -= 1
                if left == 0:
                    return start + found + 1
            at = start
    return 0


def open_follower(config: TelemetryConfig, wanted: RunFilter, *, here: bool = False) -> Follower:
    """Return what `tail` reads: the service that has the runs, else the journal of this host, or always `here`.

    Connects to loopback at most, to find a service on this machine.
    """
    url = None if here else service_with_runs(config)
    if url is None:
        return JournalFollower(config.ndjson_dir, wanted)
    # An HTTP client, and what the database's queries take, is nine tenths of the time to look into the journal.
    from otel_agent_telemetry.operations.follow_service import ServiceFollower

    return ServiceFollower(url, config, wanted)
