"""A file that many threads and processes append whole lines to, without a lock.

One `write(2)` a line to a descriptor opened O_APPEND: the kernel puts each line behind the
last one, whoever wrote that. The descriptor is closed when nobody refers to the AppendFile
any more, so a thread that is in `write` while another moves on to a new file can never
write to a closed or reused descriptor; that is why there is no `close`.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

PRIVATE_DIR = 0o700
PRIVATE_FILE = 0o600
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class AppendFile:
    """An open file to append to. `dirty` says that something was written since `sync`.

    Raises OSError from the constructor when the file cannot be opened or made; missing
    folders are made (0700), the file is made 0600.
    """

    __slots__ = ("__weakref__", "_fd", "_torn", "dirty", "path", "size")

    def __init__(self, path: Path) -> None:
        self._fd = -1
        make_private_dir(path.parent)
        self._fd = os.open(path, _FLAGS, PRIVATE_FILE)
        self.path = path
        self.size = os.fstat(self._fd).st_size
        self.dirty = True  # a new file's directory entry wants a sync as well
        self._torn = False

    def write(self, line: bytes) -> None:
        """Append one line (LF included); on return it survives the death of the process.

        Raises OSError when it could not be written whole. What a short write leaves behind
        is closed off by a LF before the next line, so that only the head is lost.
        """
        if self._torn:
            line = b"\n" + line
        self.dirty = True
        written = os.write(self._fd, line)
        self.size += written
        if written != len(line):
            self._torn = True
            raise _short_write(written, len(line), self.path)
        self._torn = False

    def sync(self) -> None:
        """Force what was written to the disk (fdatasync). Blocks; not for the caller's thread.

        Raises OSError.
        """
        if self.dirty:
            self.dirty = False
            _datasync(self._fd)

    def replaced(self) -> bool:
        """Whether the path no longer leads to this file: removed, or rotated by someone else."""
        try:
            return not os.path.samestat(os.fstat(self._fd), os.stat(self.path))
        except OSError:
            return True

    def __del__(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)


_datasync = getattr(os, "fdatasync", os.fsync)


def write_whole(fd: int, content: bytes) -> None:
    """Write some bytes with one `write(2)`. Raises OSError, also when only a part could be written."""
    written = os.write(fd, content)
    if written != len(content):
        raise _short_write(written, len(content))


def _short_write(written: int, wanted: int, path: Path | None = None) -> OSError:
    reason = f"only {written} of {wanted} bytes could be written"
    return OSError(28, reason) if path is None else OSError(28, reason, str(path))


def make_private_dir(folder: Path) -> None:
    """Make a folder and its parents, each 0700 where it is new. Raises OSError."""
    if folder.is_dir():
        return
    make_private_dir(folder.parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, PRIVATE_DIR)  # noqa: PTH102 - pathlib's parents=True ignores the mode
    if not folder.is_dir():
        raise NotADirectoryError(20, "a file stands where a folder should be", str(folder))


def sync_dir(folder: Path) -> None:
    """Force a folder's entries to the disk, where the platform can. Raises OSError."""
    if os.name != "nt":
        _sync(folder, os.O_RDONLY)


def sync_file(path: Path) -> None:
    """Force a file's content to the disk. Raises OSError."""
    _sync(path, os.O_RDWR)


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, flags)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
