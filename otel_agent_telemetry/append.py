"""A file that many threads and processes append whole lines to, without a lock.

One `write(2)` a line to a descriptor opened O_APPEND: the kernel puts each line behind the
last one, whoever wrote that. The descriptor is closed when nobody refers to the AppendFile
any more, so a thread that is in `write` while another moves on to a new file can never
write to a closed or reused descriptor; that is why there is no `close`.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic_ns
from types import FunctionType
from typing import NoReturn, ParamSpec, TypeVar

from otel_agent_telemetry.trusted_files import make_private_dir, open_file, open_to_read

try:
    import fcntl
    import resource
except ImportError:  # Windows: descriptors keep the number that they get
    fcntl = None  # type: ignore[assignment]

P = ParamSpec("P")
T = TypeVar("T")
_VERIFY_NS = 1_000_000
"""A comparison costs a microsecond; between two of them a millisecond may pass."""
_BLOCK = 1 << 16
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT


class AppendFile:
    """An open file to append to. `dirty` is True when something was written since `sync`.

    The descriptor is this object's own and has a high number, where an application that
    closes and reopens descriptors by number does not meet it. It is compared with the file
    (device and inode) before a write that comes more than a millisecond after the last
    comparison: a number that was closed and given to another file is never written to. For
    the same reason the object refuses to be copied or pickled.

    Raises OSError from the constructor when the file cannot be opened or made, or cannot be
    trusted (`trusted_files`); missing folders are made (0700), the file is made 0600.
    """

    __slots__ = ("__weakref__", "_fd", "_identity", "_torn", "_verify_at_ns", "dirty", "path", "size")

    def __init__(self, path: Path) -> None:
        self._fd = -1
        make_private_dir(path.parent)
        self._fd = move_high(open_file(path, _FLAGS))
        self.path = path
        status = os.fstat(self._fd)
        self._identity = (status.st_dev, status.st_ino)
        self._verify_at_ns = monotonic_ns() + _VERIFY_NS
        self.size = status.st_size
        self.dirty = True  # a new file's directory entry wants a sync as well
        self._torn = False

    def write(self, line: bytes) -> None:
        """Append one line (LF included); on return it survives the death of the process.

        Raises OSError when it could not be written whole, and LostDescriptorError, before it
        writes anything, when the descriptor is no longer this file's. What a short write leaves
        behind is closed off by a LF before the next line, so that only the head is lost.
        """
        if monotonic_ns() > self._verify_at_ns:
            self._verify()
            # Without the LF, a reader would take this line for the tail of the torn one and skip both.
            if self._torn:
                line = b"\n" + line
        self.dirty = True
        try:
            written = _write(self._fd, line)
        except OSError as problem:
            # EBADF alone means closed by other code. A full disk or a limit leaves the descriptor ours.
            if problem.errno != errno.EBADF:
                raise
            self._fd = -1
            raise LostDescriptorError(errno.EBADF, "the descriptor was closed by other code", str(self.path)) from None
        self.size += written
        if self._torn or written != len(line):
            self._note_torn(written, len(line))

    def _note_torn(self, written: int, wanted: int) -> None:
        """Note whether the last line is torn; the write after a torn one begins with `_verify`. Raises OSError."""
        self._torn = written != wanted
        if self._torn:
            self._verify_at_ns = 0
            raise _short_write(written, wanted, self.path)

    def _verify(self) -> None:
        """Raise LostDescriptorError when the descriptor is no longer that of the file."""
        if not self.is_open():
            self._fd = -1  # never closed: it is somebody else's now, or nobody's
            raise LostDescriptorError(errno.EBADF, "the descriptor was closed by other code", str(self.path))
        self._verify_at_ns = monotonic_ns() + _VERIFY_NS
        if self._torn:  # asked last: another thread may just have set both
            self._verify_at_ns = 0

    def is_open(self) -> bool:
        """Return whether the descriptor still leads to the file that was opened: other code may have closed it."""
        try:
            status = os.fstat(self._fd)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._identity

    def sync(self) -> None:
        """Force what was written to the disk (fdatasync). Blocks; not for the caller's thread.

        Raises OSError.
        """
        if self.dirty:
            self._verify()
            # Before the sync, not after: a line that another thread writes during it must be synced again.
            self.dirty = False
            _datasync(self._fd)

    def replaced(self) -> bool:
        """Return whether the path no longer leads to this file (removed, rotated), or the descriptor was closed."""
        try:
            status = os.stat(self.path)
        except OSError:
            return True
        return (status.st_dev, status.st_ino) != self._identity or not self.is_open()

    def __copy__(self) -> NoReturn:
        raise TypeError("an AppendFile owns a file descriptor and cannot be copied or pickled")

    def __deepcopy__(self, _memo: object) -> NoReturn:
        self.__copy__()

    def __reduce__(self) -> NoReturn:
        self.__copy__()

    def __del__(self) -> None:
        # Not without the check: the number may be a file or socket of the application by now.
        if getattr(self, "_fd", -1) >= 0 and self.is_open():
            with contextlib.suppress(OSError):
                os.close(self._fd)


def own_code(method: Callable[P, T]) -> Callable[P, T]:
    """Return a method with code of its own, for a subclass whose objects are written to as often as others.

    The interpreter adapts a function to the one class that it meets; code that meets two by turns stays slow.
    """
    return FunctionType(method.__code__.replace(), method.__globals__, method.__name__)


class LostDescriptorError(OSError):
    """Other code of the process closed the descriptor; the file must be opened anew."""


def move_high(fd: int) -> int:
    """Give a descriptor a high number, out of the way of code that closes descriptors by number.

    Returns the descriptor that is open afterwards: the same one where the platform or the
    limit of open files allows no other.
    """
    if fcntl is None:
        return fd  # type: ignore[unreachable]  # on Windows it is
    try:
        high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _lowest_high_number())
    except OSError:
        return fd
    os.close(fd)
    return high


def _lowest_high_number() -> int:
    """Three quarters of the usual limit of 1024: the kernel's table grows with the highest number in use."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(soft, 1024) * 3 // 4 if soft > 0 else 768


_write = os.write
_datasync = getattr(os, "fdatasync", os.fsync)


def write_whole(fd: int, content: bytes) -> None:
    """Write some bytes with one `write(2)`. Raises OSError, also when only a part could be written."""
    written = os.write(fd, content)
    if written != len(content):
        raise _short_write(written, len(content))


def _short_write(written: int, wanted: int, path: Path | None = None) -> OSError:
    """Return the error of a write that took only a part: no space left, whatever the file system called it."""
    reason = f"only {written} of {wanted} bytes could be written"
    return OSError(28, reason) if path is None else OSError(28, reason, str(path))


def sync_dir(folder: Path) -> None:
    """Force a folder's entries to the disk, where the platform can. Raises OSError."""
    if os.name != "nt":
        _sync(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))


def sync_file(path: Path) -> None:
    """Force a file's content to the disk. Raises OSError."""
    _sync(open_file(path, os.O_RDWR))


def _sync(fd: int) -> None:
    """Force a file or folder to disk through a descriptor of its own. Raises OSError."""
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def end_of_lines(path: Path, *, size: int | None = None) -> int:
    """Return the size of a file up to its last LF, which a torn line at its end does not have. Raises OSError.

    `size`: look at so many bytes from its beginning only; default the whole file. Reads backwards, 64 KiB at a time,
    and so the length of the last line.
    """
    with open_to_read(path, buffering=0) as stream:
        at = stream.seek(0, os.SEEK_END) if size is None else size
        while at > 0:
            start = max(at - _BLOCK, 0)
            stream.seek(start)
            # Only LF counts: a line that is being written ends with none, and is no line yet.
            if (found := stream.read(at - start).rfind(b"\n")) >= 0:
                return start + found + 1
            at = start
    return 0
