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
write it do. Nobody waits for that lock: an entry that finds the file locked is put beside
it (`waiting`), and the background adds it. Past `max_bytes` the file gets a dated name, an
array still, and a new one begins.

The array files of a process: one object a path, which the recorder's background looks after.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

from otel_agent_telemetry.append import make_private_dir, sync_dir
from otel_agent_telemetry.capture.array_reader import Entry, newest_first
from otel_agent_telemetry.capture.array_tail import ArrayEnd, find_end
from otel_agent_telemetry.capture.waiting import WaitingEntries
from otel_agent_telemetry.clock import Clock, SystemClock, iso_utc
from otel_agent_telemetry.locks import FileLock
from otel_agent_telemetry.recording.recorder import Recorder

_CLOSING: Final = b"\n]\n"
_AT_ONCE: Final = 64
"""Waiting entries that one write adds."""
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
        with self._locked() as (lock, end):
            if end is not None:
                _add(lock.fileno(), end, [entry])
                self._unsynced.add(self.path)
                return True
        self._unsynced.add(self._waiting.put(entry, self._clock.now_ns()))
        return False

    def settle(self, *, timeout_s: float = 60.0) -> bool:
        """Add what waits, if nobody holds the lock, for about so long. Blocks on the disk. Raises OSError.

        False when something still waits.
        """
        if not self._waiting.any():
            return True
        deadline = time.monotonic() + timeout_s
        names = self._waiting.names()
        while names and time.monotonic() < deadline:
            with self._locked() as (lock, end):
                if end is None:
                    return False
                self._add_waiting(lock, end, names[:_AT_ONCE])
            del names[:_AT_ONCE]
        self._waiting.tidy()
        return not names

    def entries(self) -> Iterator[Entry]:
        """Every entry, newest first, of rotated files too; those that still wait come first. Blocks. Raises OSError."""
        try:
            waiting = [] if self.settle() else self._waiting.entries()
        except OSError:  # a disk that is full or read-only can be read all the same
            waiting = self._waiting.entries()
        seen = {run_id for entry in waiting if (run_id := entry.get("run_id"))}
        yield from reversed(waiting)
        yield from (entry for entry in newest_first(self.path) if not seen or entry.get("run_id") not in seen)

    def sync(self) -> None:
        """Force what was written to the disk. Blocks. Raises OSError."""
        for path in list(self._unsynced):
            self._unsynced.discard(path)
            try:
                _force(path)
            except FileNotFoundError:  # removed, or added to the array meanwhile
                continue
            except OSError:
                self._unsynced.add(path)
                raise

    @contextlib.contextmanager
    def _locked(self) -> Iterator[tuple[FileLock, ArrayEnd | None]]:
        """The lock on the file at the path, and where to write there; None when somebody else has the lock."""
        lock = FileLock(self.path)
        try:
            yield lock, self._with_room(lock) if self._acquire(lock) else None
        finally:
            lock.release()

    def _acquire(self, lock: FileLock) -> bool:
        try:
            held = lock.try_acquire()
        except FileNotFoundError:
            make_private_dir(self.path.parent)
            held = lock.try_acquire()
        if held and not stat.S_ISREG(os.fstat(lock.fileno()).st_mode):
            raise OSError(22, "not a regular file", str(self.path))
        return held

    # --- with the lock held

    def _with_room(self, lock: FileLock) -> ArrayEnd | None:
        """Where to write, in a new file if this one is full or no array; None when somebody else locked that first."""
        fd = lock.fileno()
        size = os.fstat(fd).st_size
        end = find_end(fd, size)
        if end is None:
            self.set_aside = self._rename(lock, _SET_ASIDE)
        elif size <= self._max_bytes or end.empty:
            return end
        else:
            _write_end(fd, end.offset, _CLOSING)  # what is rotated is whole
            try:
                self._rename(lock, "")
            except OSError:  # the folder cannot be written: a file that is too large keeps more than none
                return end
        if not self._acquire(lock):
            return None
        return find_end(lock.fileno(), os.fstat(lock.fileno()).st_size)

    def _rename(self, lock: FileLock, mark: str) -> Path:
        """Give the file another name and the lock up; for a moment there is no file, and anybody may make it."""
        old = self._free_name(mark)
        self.path.rename(old)
        lock.release()
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

    def _add_waiting(self, lock: FileLock, end: ArrayEnd, names: Sequence[str]) -> None:
        self._waiting.finish(self.path)
        with self._waiting.taken(names, self.path, end.offset) as entries:
            if entries:
                _add(lock.fileno(), end, entries)
                self._unsynced.add(self.path)


def _force(path: Path) -> None:
    fd = os.open(path, os.O_RDWR)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    sync_dir(path.parent)


def _add(fd: int, end: ArrayEnd, entries: Sequence[bytes]) -> None:
    """Write entries behind the last one, or leave the file closed as it was. Raises OSError."""
    opening = (b"[\n" if end.offset == 0 else b"\n") if end.empty else b",\n"
    try:
        _write_end(fd, end.offset, opening + b",\n".join(entries) + _CLOSING)
    except OSError:
        closing = b"[" + _CLOSING if end.offset == 0 else _CLOSING
        with contextlib.suppress(OSError):  # these bytes had their room already
            _write_end(fd, end.offset, closing)
        raise


def _write_end(fd: int, offset: int, content: bytes) -> None:
    """Make some bytes the file's end. Raises OSError."""
    os.lseek(fd, offset, os.SEEK_SET)
    written = os.write(fd, content)
    if written != len(content):
        raise OSError(28, f"only {written} of {len(content)} bytes could be written")
    if os.fstat(fd).st_size > offset + len(content):
        os.ftruncate(fd, offset + len(content))


class Entries(Protocol):
    """Where captured entries are kept: an `ArrayFile`, or what stands for one in a test."""

    set_aside: Path | None

    def append(self, entry: bytes) -> bool:
        """Keep one entry; see `ArrayFile.append`."""

    def entries(self) -> Iterator[Entry]:
        """Every entry, newest first."""

    def sync(self) -> None:
        """Force what was kept to the disk."""


class CaptureFiles:
    """The array files that entries of one recorder go to. A component of the recorder."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._files: dict[Path, ArrayFile] = {}
        recorder.periodic_tasks.append(self.look_after)

    def at(self, path: Path) -> Entries:
        """The file at an absolute path; opens nothing."""
        known = self._files.get(path)
        if known is None:
            made = ArrayFile(path, max_bytes=self._recorder.config.capture_max_bytes, clock=self._recorder.clock)
            known = self._files.setdefault(path, made)
        return known

    def look_after(self, timeout_s: float) -> None:
        """Add what waits, for about so long, and force to the disk what was written. Blocks. Never raises OSError."""
        for path, file in list(self._files.items()):
            with self._telling(path):
                file.settle(timeout_s=timeout_s)
            if self._recorder.config.fsync != "off":
                with self._telling(path):
                    file.sync()

    @contextlib.contextmanager
    def _telling(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            self._recorder.counters.failed(f"writing {path}", problem)
