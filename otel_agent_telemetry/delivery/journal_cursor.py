"""How much of the journal a service's database has, so that its deliverer goes on where the last one stopped.

`{buffer}/journal-{store}.cursor`, one file for each database; `store` is the id that `/version`
names. It holds one JSON object:

    {"store": "9f…", "target": "https://…", "days": {"20260131": [5120, 131073, 305419896], …},
     "states": {"20260131": 4096, …}}

`target` is for people. Each day has the bytes that the database has confirmed, from the start of
the day's file, the file's inode, and a checksum of its first 256 bytes, or of all where it had
fewer: a file that was replaced, or is shorter by now, begins at 0. The inode alone would not do,
because a new file often gets that of the one just removed. Days whose files are gone are left
out. A day that was compressed goes on where its file was; when all of it is confirmed, the inode
is that of the archive.

`states` has the size that each day had when the cursor began, of an archive more than any size. Up to there
states of runs are lines to deliver, too: what other databases confirmed has left the buffer, and the journal alone
can bring it to this one. So a service whose database was restored from a backup, and has a new id since, gets
all of it again.

The file is replaced atomically after each confirmation. It is not forced to disk, and whatever
cannot be read counts as nothing: a cursor that is lost, or too small, means that lines are
delivered again, which changes nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import orjson

from otel_agent_telemetry.append import end_of_lines
from otel_agent_telemetry.buffer.health import read_health
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.journal import day_of_file, is_compressed, journal_files
from otel_agent_telemetry.patterns import lazy
from otel_agent_telemetry.trusted_files import open_to_read, read_bytes, replace_content, trusted_names
from otel_agent_telemetry.wire import load_object

T = TypeVar("T")
_STORE: Final = lazy(r"[0-9a-f]{1,64}")
_NAME: Final = lazy(r"journal-([0-9a-f]{1,64})\.cursor")
_MEMBERS: Final = 3
_HEAD: Final = 256
_ALL: Final = 1 << 62
"""More bytes than a file has."""


class Unsent(NamedTuple):
    """What of a day's file is not confirmed: the bytes from `offset` to `end`, which is None where it is an archive."""

    path: Path
    offset: int
    end: int | None


class _Place(NamedTuple):
    """How far a day is confirmed, and in which file."""

    offset: int
    inode: int
    head: int


_NOWHERE: Final = _Place(0, 0, 0)


class JournalCursor:
    """The confirmed part of each day of one journal, for one database. One thread."""

    def __init__(self, buffer_dir: Path, store: str, *, target: str = "") -> None:
        """Read the cursor of a database. Never raises OSError."""
        self._path = buffer_dir / f"journal-{store}.cursor"
        self._store = store
        self._target = target
        known = _read(self._path)
        self.is_new = known is None
        """Whether nothing is known of the database: it has no cursor, or none that can be read."""
        self._days = _members(known, "days", _is_place, lambda value: _Place(*value))
        self._states: dict[str, int] = _members(known, "states", _is_size, int)

    @staticmethod
    def is_store(value: object) -> bool:
        """Return whether a value can be the id of a database: a file is named after it."""
        return isinstance(value, str) and _STORE.fullmatch(value) is not None

    def begin(self, folder: Path, *, with_states: bool) -> None:
        """Write the cursor of a database that has no line yet, and `with_states` no state either. Raises OSError."""
        files = journal_files(folder) if with_states else []
        self._states = {day_of_file(path): _ALL if is_compressed(path) else path.stat().st_size for path in files}
        self._write()
        self.is_new = False

    def states_until(self, path: Path) -> int:
        """Return the number of bytes of a day up to which states of runs are delivered as lines."""
        return self._states.get(day_of_file(path), 0)

    def unsent(self, folder: Path, *, archives: bool) -> Iterator[Unsent]:
        """Yield what of each day is not confirmed, the oldest day first; compressed days if asked. Raises OSError."""
        for path in journal_files(folder):
            offset, size = self.confirmed(path), path.stat().st_size
            if offset >= size:
                continue
            if not is_compressed(path):
                yield Unsent(path, offset, size)
            elif archives:
                yield Unsent(path, self._days.get(day_of_file(path), _NOWHERE).offset, None)

    def confirmed(self, path: Path) -> int:
        """Return how many bytes of a day's file are confirmed; of an archive all or none. Raises OSError."""
        status = path.stat()
        place = self._days.get(day_of_file(path), _NOWHERE)
        if place.inode != status.st_ino:
            return 0
        if is_compressed(path):
            return status.st_size
        # The head of a file that has not grown is not read: there may be hundreds of days.
        is_same = place.offset == status.st_size or place.head == _head_of(path, place.offset)
        return place.offset if is_same and place.offset <= status.st_size else 0

    def confirm(self, path: Path, offset: int, *, is_end: bool = False) -> None:
        """Note that the database has the first `offset` bytes of a day's file, to the end or not. Raises OSError."""
        # Of an archive the inode says that all of it is confirmed: its length is known when it has been read.
        inode = path.stat().st_ino if is_end or not is_compressed(path) else 0
        self._days[day_of_file(path)] = _Place(offset, inode, 0 if is_compressed(path) else _head_of(path, offset))
        there = set(map(day_of_file, journal_files(path.parent)))
        self._days = {day: place for day, place in self._days.items() if day in there}
        self._states = {day: size for day, size in self._states.items() if day in there}
        self._write()

    def _write(self) -> None:
        """Replace the file. Raises OSError."""
        value = {
            "store": self._store,
            "target": self._target,
            "days": {day: list(place) for day, place in self._days.items()},
            "states": self._states,
        }
        replace_content(self._path, orjson.dumps(value))


def _read(path: Path) -> dict[str, Any] | None:
    """Return what a cursor's file holds; None for one that is missing or cannot be read."""
    try:
        return load_object(read_bytes(path))
    except OSError:
        return None


def _members(
    known: dict[str, Any] | None, name: str, is_right: Callable[[Any], bool], make: Callable[[Any], T]
) -> dict[str, T]:
    """Return day → value of a member of the file, without what is none."""
    days = (known or {}).get(name)
    return {day: make(value) for day, value in days.items() if is_right(value)} if isinstance(days, dict) else {}


def _is_place(value: Any) -> bool:
    """Return whether a value of the file is how far a day is confirmed."""
    return isinstance(value, list) and len(value) == _MEMBERS and all(map(_is_size, value))


def _is_size(value: Any) -> bool:
    """Return whether a value of the file is a number of bytes."""
    return type(value) is int and value >= 0


def last_cursor(buffer_dir: Path) -> JournalCursor | None:
    """Return the cursor of the database that confirmed last; None when none ever has. Raises OSError."""
    names = trusted_names(buffer_dir) if buffer_dir.is_dir() else []
    found = [((buffer_dir / name).stat().st_mtime_ns, parts[1]) for name in names if (parts := _NAME.fullmatch(name))]
    return JournalCursor(buffer_dir, max(found)[1]) if found else None


def waiting_lines(config: TelemetryConfig, *, archives: bool = True) -> dict[Path, int]:
    """Return day file → the bytes of whole lines in it, for the days that a service has not confirmed.

    Of an archive its own bytes. Empty where lines of the journal go nowhere. Raises OSError.
    """
    if config.deliver != "all" or not (config.api_url or read_health(config.buffer_dir).takes_lines):
        return {}
    cursor = last_cursor(config.buffer_dir)
    files = [path for path in journal_files(config.ndjson_dir) if archives or not is_compressed(path)]
    sizes = {path: path.stat().st_size if is_compressed(path) else end_of_lines(path) for path in files}
    return {path: size for path, size in sizes.items() if cursor is None or cursor.confirmed(path) < size}


class JournalProgress(NamedTuple):
    """How much of a journal a database has: bytes of whole lines, of an archive its own bytes."""

    size: int
    confirmed: int

    @property
    def waiting(self) -> int:
        """Return the bytes that are not in the database yet."""
        return self.size - self.confirmed


def journal_progress(config: TelemetryConfig, store: str) -> JournalProgress:
    """Return how much of the journal of a base directory the database `store` has. Raises OSError.

    Costs a few small reads for each day that is not confirmed to its end. An archive counts when
    all of it is confirmed.
    """
    cursor, size, confirmed = JournalCursor(config.buffer_dir, store), 0, 0
    for path in journal_files(config.ndjson_dir):
        done, whole = cursor.confirmed(path), path.stat().st_size
        if done < whole and not is_compressed(path):
            whole = max(end_of_lines(path), done)
        size, confirmed = size + whole, confirmed + done
    return JournalProgress(size, confirmed)


def still_waiting(config: TelemetryConfig, lines: Mapping[Path, int]) -> dict[Path, int]:
    """Return those of the days (path → size) that exist and are not confirmed up to that size. Raises OSError.

    None where the target has turned out to take no lines.
    """
    if not lines or not read_health(config.buffer_dir).takes_lines:
        return {}
    cursor = last_cursor(config.buffer_dir)
    there = {path: size for path, size in lines.items() if path.exists()}
    return {path: size for path, size in there.items() if cursor is None or cursor.confirmed(path) < size}


def _head_of(path: Path, confirmed: int) -> int:
    """Return a checksum of the first bytes of a file, as far as they are confirmed. Raises OSError."""
    with open_to_read(path, buffering=0) as stream:
        return zlib.crc32(stream.read(min(_HEAD, confirmed)))
