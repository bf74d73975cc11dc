"""A JSON array file that grows by appending, shared by threads, processes and hosts.

The file is one JSON array at every moment but during a write, so that any program can read
it. An entry is one line; existing entries are neither read nor written again:

    file  = "[" LF [ entry *( "," LF entry ) ] LF "]" LF
    entry = JSON object without a line feed, UTF-8

Adding an entry is one `write(2)` that replaces LF `]` LF with `,` LF entry LF `]` LF. On
return it survives the death of the process; the background forces it to the disk within a
second (`fsync`). A write that is cut short (process killed, disk full) leaves the head of an
entry that was never acknowledged; it is removed at once where that is possible, else by the
next entry. The file may come from another program: entries are added to an array in any
form, and a file that is no array is moved aside, whole.

The file itself is locked (`flock`, exclusive) while it is written, as by other programs that
write it; a write holds the lock for some 20 µs. A writer waits for the lock up to its
timeout (contract 15). After that the entry is set aside (`set_aside`), and the next entry or
query of any process adds it. Past `max_bytes` the file gets a dated name, an array still,
and a new one begins.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from otel_agent_telemetry.append import sync_dir, sync_file, write_whole
from otel_agent_telemetry.capture.array_reader import ArrayEnd, Entry, find_end, newest_first
from otel_agent_telemetry.capture.set_aside import SetAsideEntries
from otel_agent_telemetry.clock import Clock, SystemClock, iso_utc
from otel_agent_telemetry.locks import FileLock
from otel_agent_telemetry.trusted_files import followed, make_private_dir

_CLOSING: Final = b"\n]\n"
_SHORTEST_DELAY_S: Final = 20e-6
_LONGEST_DELAY_S: Final = 5e-3
_FOREIGN: Final = "set-aside"


class ArrayFile:
    """Adds entries to the array file at `path`. Safe under threads, processes and forks; opens nothing until used.

    `max_bytes`: the size past which the file is rotated. `lock_timeout_s`: how long a call
    waits for the file's lock, default 2 s. A symbolic link is followed once, here, where its
    folder is private.
    """

    def __init__(self, path: Path, *, max_bytes: int, lock_timeout_s: float = 2.0, clock: Clock | None = None) -> None:
        self.path = followed(path)
        self._max_bytes = max_bytes
        self._lock_timeout_s = lock_timeout_s
        self._clock = clock or SystemClock()
        self._set_aside = SetAsideEntries(self.path)
        self._unsynced: set[Path] = set()
        self.foreign_file: Path | None = None
        """The new name of the last file at this path that was no array."""

    def append(self, entry: bytes, *, wait: bool = True) -> bool:
        """Add one entry, a JSON object on one line; on return it survives the death of the process.

        Blocks up to `lock_timeout_s` while another writer holds the lock, not at all without
        `wait`. True when the entry is in the array, False when it was set aside because the
        lock stayed held. Raises OSError when it could not be kept.
        """
        # The lock is held for microseconds, so a short wait is cheaper at every percentile than setting aside.
        if _within(self._lock_timeout_s if wait else 0.0, lambda: self._try_append(entry)):
            return True
        self._put_aside(entry)
        return False

    async def append_async(self, entry: bytes) -> bool:
        """Append as `append` does, for a coroutine: other tasks of the asyncio event loop run while it waits.

        A coroutine of another event loop, or of none, blocks as `append` does. Cancelled
        while it waits, it sets the entry aside and raises CancelledError.
        """
        if self._try_append(entry):
            return True
        import asyncio  # here, because a process without an event loop need not load it

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self.append(entry)
        try:
            for delay_s in _delays(self._lock_timeout_s):
                await asyncio.sleep(delay_s)
                if self._try_append(entry):
                    return True
        except (asyncio.CancelledError, GeneratorExit):  # the task is cancelled, or its loop was closed
            self._put_aside(entry)
            raise
        self._put_aside(entry)
        return False

    def add_set_aside(self, *, wait: bool = False) -> bool:
        """Add the entries that were set aside to the array, if the lock can be had. Blocks on the disk.

        With `wait` for up to `lock_timeout_s`. True when none is left. Raises OSError.
        """
        if not self._set_aside.any():
            return True
        return _within(self._lock_timeout_s if wait else 0.0, self._try_add_set_aside)

    def entries(self) -> Iterator[Entry]:
        """Yield every entry, newest first, of rotated files too; set-aside ones that cannot be added come first.

        Blocks on the disk, and up to `lock_timeout_s` when entries are set aside. Raises OSError.
        """
        try:
            aside = [] if self.add_set_aside(wait=True) else self._set_aside.entries()
        except OSError:  # a disk that is full or read-only can be read all the same
            aside = self._set_aside.entries()
        # An entry can be in both: a process killed after writing the array has not removed its set-aside file.
        seen = {run_id for entry in aside if (run_id := entry.get("run_id"))}
        yield from reversed(aside)
        yield from (entry for entry in newest_first(self.path) if not seen or entry.get("run_id") not in seen)

    def sync(self) -> None:
        """Force what was written to the disk. Blocks. Raises OSError."""
        for path in list(self._unsynced):
            # Discarded before the sync: an entry written during it puts the path back, and is synced next time.
            self._unsynced.discard(path)
            try:
                _force(path)
            except FileNotFoundError:  # removed, or added to the array meanwhile
                continue
            except OSError:
                self._unsynced.add(path)
                raise

    # --- one attempt at the lock

    def _try_append(self, entry: bytes) -> bool:
        """Add the entry, and those that wait; return whether the lock was free. Raises OSError."""
        with self._locked() as (lock, end):
            if end is None:
                return False
            behind = self._write(lock, end, [entry])
            if self._set_aside.any():
                # The entry is in the array already; whether older ones can be added must not matter to it.
                with contextlib.suppress(OSError):
                    self._write_set_aside(lock, behind)
        return True

    def _try_add_set_aside(self) -> bool:
        """Add the entries that wait; return whether the lock was free. Raises OSError."""
        with self._locked() as (lock, end):
            if end is None:
                return False
            self._write_set_aside(lock, end)
        return True

    def _put_aside(self, entry: bytes) -> None:
        """Keep an entry beside the array, for whoever has the lock next. Raises OSError."""
        self._unsynced.add(self._set_aside.put(entry, self._clock.now_ns()))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[tuple[FileLock, ArrayEnd | None]]:
        """Yield the file's lock and where to write; None instead of that when another writer holds the lock."""
        lock = FileLock(self.path)
        try:
            yield lock, self._with_room(lock) if self._acquire(lock) else None
        finally:
            lock.release()

    def _acquire(self, lock: FileLock) -> bool:
        """Take the lock if it is free, making the folder where it is missing. Raises OSError for what is no file."""
        try:
            held = lock.try_acquire()
        except FileNotFoundError:
            # Made only when missing, because the check would cost a system call for each entry.
            make_private_dir(self.path.parent)
            held = lock.try_acquire()
        return held

    # --- with the lock held

    def _with_room(self, lock: FileLock) -> ArrayEnd | None:
        """Return where to write, in a new file if this one is full or no array.

        None when another writer locked the new file first.
        """
        fd = lock.fileno()
        size = os.fstat(fd).st_size
        end = find_end(fd, size)
        if end is None:
            self.foreign_file = self._rename(lock, _FOREIGN)
        elif size <= self._max_bytes or end.empty:
            return end
        else:
            _write_end(fd, end.offset, _CLOSING)  # a write that was cut short must not be rotated with its torn end
            try:
                self._rename(lock, "")
            except OSError:  # the folder cannot be written: a file that is too large keeps more than none
                return end
        # The lock went with the renamed file: another writer may have made and locked the new one first.
        if not self._acquire(lock):
            return None
        return find_end(lock.fileno(), os.fstat(lock.fileno()).st_size)

    def _rename(self, lock: FileLock, mark: str) -> Path:
        """Rename the file, release the lock and return the new name.

        For a moment there is no file at the path, and any writer may make the new one.
        """
        old = self._free_name(mark)
        self.path.rename(old)
        lock.release()
        self._unsynced.add(old)
        return old

    def _free_name(self, mark: str) -> Path:
        """Return an unused `telemetry.20251024T143045.123456Z.json`, followed by `.{mark}` if one is given."""
        now_ns = self._clock.now_ns()
        while True:
            moment = iso_utc(now_ns)[:26].replace("-", "").replace(":", "") + "Z"
            dated = f"{self.path.stem}.{moment}{self.path.suffix}"
            name = self.path.with_name(f"{dated}.{mark}" if mark else dated)
            if not os.path.lexists(name):
                return name
            now_ns += 1000

    def _write(self, lock: FileLock, end: ArrayEnd, entries: Sequence[bytes]) -> ArrayEnd:
        """Write entries before the end of the array and return where its end is then. Raises OSError."""
        end = _add(lock.fileno(), end, entries)
        self._unsynced.add(self.path)
        return end

    def _write_set_aside(self, lock: FileLock, end: ArrayEnd) -> None:
        """Add what is set aside: first what a dead process had taken, if there is such, then the rest."""
        while self._set_aside.any():
            with self._set_aside.taken() as entries:
                if entries:
                    end = self._write(lock, end, entries)


def _within(timeout_s: float, attempt: Callable[[], bool]) -> bool:
    """Repeat an attempt until it succeeds or the time is up; the first one is made at once."""
    if attempt():
        return True
    for delay_s in _delays(timeout_s):
        time.sleep(delay_s)
        if attempt():
            return True
    return False


def _delays(timeout_s: float) -> Iterator[float]:
    """Yield the seconds to sleep before each further attempt at a lock, until the time is up.

    In proportion to the time waited: a lock that other writers hold for microseconds is had
    within some of them, and one that a stopped process holds costs little to wait for.
    """
    began = time.monotonic()
    while (waited := time.monotonic() - began) < timeout_s:
        yield min(max(waited / 4, _SHORTEST_DELAY_S), _LONGEST_DELAY_S, timeout_s - waited)


def _force(path: Path) -> None:
    """Force the file and its name to disk. Raises OSError."""
    sync_file(path)
    sync_dir(path.parent)


def _add(fd: int, end: ArrayEnd, entries: Sequence[bytes]) -> ArrayEnd:
    """Write entries after the last one and return the new end, or leave the file closed as it was. Raises OSError."""
    opening = (b"[\n" if end.offset == 0 else b"\n") if end.empty else b",\n"
    content = opening + b",\n".join(entries)
    try:
        _write_end(fd, end.offset, content + _CLOSING)
    except OSError:
        closing = b"[" + _CLOSING if end.offset == 0 else _CLOSING
        with contextlib.suppress(OSError):  # these bytes had their room already
            _write_end(fd, end.offset, closing)
        raise
    return ArrayEnd(end.offset + len(content), empty=False)


def _write_end(fd: int, offset: int, content: bytes) -> None:
    """Write `content` at `offset` and cut the file behind it. Raises OSError."""
    os.lseek(fd, offset, os.SEEK_SET)
    write_whole(fd, content)
    if os.fstat(fd).st_size > offset + len(content):
        os.ftruncate(fd, offset + len(content))
