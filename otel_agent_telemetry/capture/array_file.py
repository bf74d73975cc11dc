"""A JSON array file that grows by appending, shared by threads, processes and hosts.

The file is one JSON array at every moment but during a write, so that any program can read
it. An entry is one line; nothing that is there is read or written again:

    file  = "[" LF [ entry *( "," LF entry ) ] LF "]" LF
    entry = JSON object without a line feed, UTF-8

Adding an entry is one `write(2)` that puts `,` LF entry LF `]` LF in the place of LF `]` LF.
On return it survives the death of the process; the background forces it to the disk within
a second (`fsync`). A write cut short (killed, disk full) leaves the head of an entry that
nobody was told of; it is undone at once where that is possible, else at the next entry. The
file may come from another program: an array in any form is added to behind its last
element, and what is no array is set aside under another name, whole.

The file itself is locked (`flock`, exclusive) while it is written, as other programs that
write it do. Nobody waits for that lock: an entry that finds the file locked goes to
`waiting` beside it, and whoever holds the lock next adds it. Past `max_bytes` the file gets
a dated name, an array still, and a new one begins.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from otel_agent_telemetry.append import make_private_dir, sync_dir
from otel_agent_telemetry.capture.array_tail import find_end
from otel_agent_telemetry.capture.waiting import WaitingEntries
from otel_agent_telemetry.clock import Clock, SystemClock, iso_utc
from otel_agent_telemetry.locks import FileLock

_CLOSING: Final = b"\n]\n"
_MAX_TAKEN: Final = 64
"""Waiting entries that one `append` takes along; the background takes what is more."""
_SET_ASIDE: Final = "set-aside"


class ArrayFile:
    """Adds entries to the array file at `path`. Safe under threads, processes and forks; opens nothing until used.

    `max_bytes`: the size past which the file is rotated. A symbolic link is followed once, here.
    """

    def __init__(self, path: Path, *, max_bytes: int, clock: Clock | None = None) -> None:
        self.path = Path(os.path.realpath(path))
        self._max_bytes = max_bytes
        self._clock = clock or SystemClock()
        self._waiting = WaitingEntries(self.path)
        self._unsynced: set[Path] = set()
        self.set_aside: Path | None = None
        """Where the last file that was no array was put."""

    def append(self, entry: bytes) -> bool:
        """Add one entry, a JSON object on one line; on return it survives the death of the process.

        True when it is in the array, False when it waits beside it because the file was
        locked. Never waits. Raises OSError when it could not be kept.
        """
        lock = FileLock(self.path)
        try:
            if not self._acquire(lock):
                self._waiting.put(entry, self._clock.now_ns())
                return False
            self._add(lock, [entry], most=_MAX_TAKEN)
        finally:
            lock.release()
        return True

    def settle(self) -> bool:
        """Add what waits, if nobody holds the lock. Blocks on the disk. Raises OSError.

        False when something still waits.
        """
        if not self._waiting.any():
            return True
        while self._waiting.names():
            lock = FileLock(self.path)
            try:
                if not self._acquire(lock):
                    return False
                self._add(lock, [], most=_MAX_TAKEN)
            finally:
                lock.release()
        self._waiting.tidy()
        return True

    def waiting(self) -> list[bytes]:
        """The entries that wait, oldest first. Raises OSError."""
        return self._waiting.entries()

    def sync(self) -> None:
        """Force what was written to the disk. Blocks. Raises OSError."""
        for path in list(self._unsynced):
            self._unsynced.discard(path)
            with contextlib.suppress(FileNotFoundError):
                fd = os.open(path, os.O_RDWR)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
                sync_dir(path.parent)

    # --- with the lock held

    def _acquire(self, lock: FileLock) -> bool:
        try:
            return lock.try_acquire()
        except FileNotFoundError:
            make_private_dir(self.path.parent)
            return lock.try_acquire()

    def _add(self, lock: FileLock, entries: list[bytes], *, most: int) -> None:
        """Add what waits, `most` of it, and then some entries, in one write."""
        if not self._waiting.any():
            self._write(lock, entries)
            return
        size = os.fstat(lock.fileno()).st_size
        with self._waiting.taken(most, self.path, size) as taken:
            self._write(lock, [*taken, *entries])

    def _write(self, lock: FileLock, entries: Sequence[bytes]) -> None:
        if not entries:
            return
        fd = lock.fileno()
        size = os.fstat(fd).st_size
        end = find_end(fd, size)
        if end is None:
            self.set_aside = self._begin_anew(entries, self._free_name(_SET_ASIDE))
        elif size > self._max_bytes and not end.empty:
            _replace_end(fd, end.offset, _CLOSING, size)  # what is rotated is whole
            self._begin_anew(entries, self._free_name(""))
        else:
            first = (b"[\n" if end.offset == 0 else b"\n") if end.empty else b",\n"
            _replace_end(fd, end.offset, first + b",\n".join(entries) + _CLOSING, size, empty=end.empty)
        self._unsynced.add(self.path)

    def _begin_anew(self, entries: Sequence[bytes], old: Path) -> Path:
        """Give the file another name and put a new one in its place; at no moment is there none."""
        new = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), 0o600)
        try:
            _replace_end(fd, 0, b"[\n" + b",\n".join(entries) + _CLOSING, 0, empty=True)
        except OSError:
            new.unlink()
            raise
        finally:
            os.close(fd)
        try:
            os.link(self.path, old)
            new.replace(self.path)
        except OSError:  # a file system without hard links: for a moment there is no file, and anybody may make it
            self.path.rename(old)
            new.unlink()
            for entry in entries:
                self._waiting.put(entry, self._clock.now_ns())
        self._unsynced.add(old)
        return old

    def _free_name(self, mark: str) -> Path:
        """`telemetry.20251024T143045.123456Z.json`, or with a mark for what is no array."""
        now_ns = self._clock.now_ns()
        while True:
            moment = iso_utc(now_ns)[:26].replace("-", "").replace(":", "") + "Z"
            dated = f"{self.path.stem}.{moment}{self.path.suffix}"
            name = self.path.with_name(f"{dated}.{mark}" if mark else dated)
            if not os.path.lexists(name):
                return name
            now_ns += 1000


def _replace_end(fd: int, offset: int, content: bytes, size: int, *, empty: bool = False) -> None:
    """Write from `offset` to a file's end, or leave the file closed as it was. Raises OSError."""
    try:
        _write_whole(fd, offset, content)
    except OSError:
        with contextlib.suppress(OSError):
            _undo(fd, offset, empty=empty)
        raise
    if offset + len(content) < size:
        os.ftruncate(fd, offset + len(content))


def _write_whole(fd: int, offset: int, content: bytes) -> None:
    os.lseek(fd, offset, os.SEEK_SET)
    written = os.write(fd, content)
    if written != len(content):
        raise OSError(28, f"only {written} of {len(content)} bytes could be written")


def _undo(fd: int, offset: int, *, empty: bool) -> None:
    """Close the array again where it ended before: these bytes had their room already."""
    closing = (b"[" if offset == 0 else b"") + _CLOSING if empty else _CLOSING
    os.lseek(fd, offset, os.SEEK_SET)
    os.write(fd, closing)
    os.ftruncate(fd, offset + len(closing))
