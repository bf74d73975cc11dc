"""An operating-system lock on a file: who holds it, and nothing that outlives the holder.

The kernel releases the lock when the holding process dies, however it dies; nothing has to
be cleaned up, and a lock file that lies about means nothing. `flock` on Unix: the lock
belongs to the open file, so reading the file elsewhere in the process does not release it;
a forked child would inherit it, so every child closes its copies at once. A byte lock on
Windows. A holder may be stopped (Ctrl-Z, a debugger, a paused container): `is_stopped`.

The kept locking libraries open the file themselves, truncate it, or cost 10–15 ms of import
on the application's thread; here the file's content is ours (who holds it) and stays.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import weakref
from pathlib import Path
from typing import Final, NoReturn

from otel_agent_telemetry import forks
from otel_agent_telemetry.append import move_high
from otel_agent_telemetry.trusted_files import open_file

if sys.platform == "win32":
    import msvcrt

    def _try_lock(fd: int) -> bool:
        os.lseek(fd, 1 << 30, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _try_lock(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


_FLAGS = os.O_RDWR | os.O_CREAT


class FileLock:
    """An exclusive lock on `path`, held from `try_acquire` until `release` or the process ends.

    Not shared between threads: each thread that wants the lock makes its own FileLock, and
    only one of them gets it.
    """

    __slots__ = ("__weakref__", "_fd", "_identity", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        self._identity = (0, 0)
        _locks.add(self)

    def __copy__(self) -> NoReturn:
        raise TypeError("a FileLock owns a file descriptor and cannot be copied or pickled")

    def __deepcopy__(self, _memo: object) -> NoReturn:
        self.__copy__()

    def __reduce__(self) -> NoReturn:
        self.__copy__()

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            self.release()

    @property
    def held(self) -> bool:
        """Return whether this object holds the lock."""
        return self._fd >= 0

    def try_acquire(self) -> bool:
        """Take the lock if it is free; never waits. Makes the file (0600) when it is missing.

        True also when this object holds it already. A lock whose descriptor other code of the
        process closed was given up by that, and is taken anew.
        Raises OSError when the file cannot be opened or trusted (`trusted_files`), or its file system has no locks.
        """
        if self._fd >= 0:
            if _identity_of(self._fd) == self._identity:
                return True
            self._fd = -1  # other code closed it, and may have reused the number
        with _no_fork:
            fd = open_file(self.path, _FLAGS)
            try:
                if _try_lock(fd) and _still_named(fd, self.path):
                    self._identity = _identity_of(fd)
                    self._fd, fd = move_high(fd), -1
            finally:
                if fd >= 0:
                    os.close(fd)
        return self.held

    def release(self, *, unlink: bool = False) -> None:
        """Give the lock up, and remove the file first if asked. Harmless when not held."""
        with _no_fork:
            fd, self._fd = self._fd, -1
            if fd < 0:
                return
            try:
                # Removed while the lock is held: after it, another process could have locked this very file.
                if unlink:
                    self.path.unlink(missing_ok=True)
            finally:
                if _identity_of(fd) == self._identity:  # else other code closed it, and may have reused the number
                    os.close(fd)

    def fileno(self) -> int:
        """Return the descriptor of the locked file, open to read and write; -1 when not held."""
        return self._fd

    def close_after_fork(self) -> None:
        """Drop the inherited copy in a forked child, so that the lock dies with the parent."""
        self.release()

    def taken_away(self) -> bool:
        """Return whether the file that is locked no longer stands at its path."""
        return self._fd < 0 or _identity_of(self._fd) != self._identity or not _still_named(self._fd, self.path)

    def write(self, content: bytes) -> None:
        """Replace the file's content, in place: works on a full disk once it had that length.

        Raises OSError, also when other code closed the descriptor.
        """
        if _identity_of(self._fd) != self._identity:
            raise OSError(errno.EBADF, "the lock's descriptor was closed by other code", str(self.path))
        os.lseek(self._fd, 0, os.SEEK_SET)
        os.write(self._fd, content)
        os.ftruncate(self._fd, len(content))

    def touch(self) -> None:
        """Set the file's modification time to now: the holder's last sign of life. Raises OSError."""
        if _identity_of(self._fd) != self._identity:
            raise OSError(errno.EBADF, "the lock's descriptor was closed by other code", str(self.path))
        os.utime(self._fd if os.utime in os.supports_fd else self.path)


def is_locked(path: Path) -> bool:
    """Return whether somebody holds the lock on `path`. Never waits and never makes the file.

    Raises OSError when the file is there and cannot be opened.
    """
    if not path.exists():
        return False
    probe = FileLock(path)
    try:
        # The lock is held for a moment: another process that asks just now sees it held, and asks again later.
        return not probe.try_acquire()
    finally:
        probe.release()


_locks: weakref.WeakSet[FileLock] = weakref.WeakSet()
_no_fork = threading.RLock()
"""Held while a descriptor is in no FileLock: a child forked then would keep a copy that nobody closes,
and with it the lock, for as long as it lives. Reentrant, because `__del__` may come at any time."""


def _before_fork() -> None:
    """Wait until no thread has a descriptor in its hands, and keep it so."""
    _no_fork.acquire()


def _after_fork_in_parent() -> None:
    """Let threads open and close locks again."""
    _no_fork.release()


def _drop_all_after_fork() -> None:
    """Close the parent's locks in a child: a lock belongs to the process that took it."""
    global _no_fork  # noqa: PLW0603 - a thread that does not exist here may hold the parent's
    _no_fork = threading.RLock()
    for lock in list(_locks):
        lock.close_after_fork()


forks.at_fork(before=_before_fork, in_parent=_after_fork_in_parent, in_child=_drop_all_after_fork)


def _identity_of(fd: int) -> tuple[int, int]:
    """Return device and inode of an open file; (0, 0) when the descriptor is not open."""
    try:
        status = os.fstat(fd)
    except OSError:
        return 0, 0
    return status.st_dev, status.st_ino


def _still_named(fd: int, path: Path) -> bool:
    """Return False when the file was removed or replaced between our open and our lock.

    Another process may then hold a lock on the file that stands there now, and both would go on.
    """
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except OSError:
        return False


_STOPPED: Final = frozenset({"T", "t"})


def is_stopped(pid: int) -> bool:
    """Return whether a process is there and does not run; False where the platform has no /proc."""
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    state = status.rpartition(b") ")[2][:1].decode("ascii", "replace")  # the name before it may hold anything
    return state in _STOPPED
