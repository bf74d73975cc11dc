"""Entries that could not wait any longer for their array file's lock, kept beside it until one can be had.

A folder `{name}.waiting-{user id}`, made when it is needed, with one file for each entry:

    {20 digits: nanoseconds since 1970}-{16 hex digits}.json    the entry, without a line feed
    .{16 hex digits}                                            an entry that is being written

An entry is written under its second name and renamed, so that a reader of the folder sees
whole entries only, on one host or on several. Whoever holds the array's lock next renames
the folder to `{name}.waiting-{user id}.taken`, adds its entries to the array and removes it.
A `.taken` folder that is there already was left by a process that died in between: its
entries are added unless the array, or the file it was rotated to last, has them.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from otel_agent_telemetry.append import write_whole
from otel_agent_telemetry.capture.array_reader import Entry, rotated
from otel_agent_telemetry.trusted_files import make_private_dir, open_file, open_to_read, read_bytes
from otel_agent_telemetry.wire import load_object

_ATTEMPTS: Final = 100
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL


class SetAsideEntries:
    """This user's set-aside entries of one array file.

    `put` and `entries` may be called at any time, `taken` only by the holder of the array's lock.
    """

    def __init__(self, array: Path) -> None:
        user = os.getuid() if hasattr(os, "getuid") else 0
        self.folder = array.with_name(f"{array.name}.waiting-{user}")
        self._array = array
        self._taken = self.folder.with_name(f"{self.folder.name}.taken")
        self._folders = (str(self._taken), str(self.folder))

    def any(self) -> bool:
        """Return whether entries may be set aside: two system calls at most."""
        return any(map(os.path.exists, self._folders))

    def put(self, entry: bytes, now_ns: int) -> Path:
        """Keep one entry and return its file; on return it survives the death of the process. Raises OSError."""
        # Of the system: forked children with one seeded generator would overwrite each other's entries.
        token = secrets.token_hex(8)
        path = self.folder / f"{now_ns:020d}-{token}.json"
        for _ in range(_ATTEMPTS):
            # The folder is missing at first, and again whenever a holder of the lock has just taken it.
            with contextlib.suppress(FileNotFoundError):
                _write_and_rename(entry, self.folder / f".{token}", path)
                return path
            make_private_dir(self.folder)
        raise FileNotFoundError(2, "the folder is removed again and again", str(self.folder))

    def entries(self) -> list[Entry]:
        """Return the set-aside entries, oldest first, without damaged ones. Raises OSError."""
        found = [load_object(content) for folder in self._folders for _, content in _contents(Path(folder))]
        return [entry for entry in found if entry is not None]

    @contextlib.contextmanager
    def taken(self) -> Iterator[list[bytes]]:
        """Yield the entries for the holder of the array's lock to write, and remove them when the block ends.

        A block that raises leaves them for the next holder. Raises OSError.
        """
        left_by_dead_process = self._taken.exists()
        if not left_by_dead_process:
            with contextlib.suppress(FileNotFoundError):
                # One rename takes all that is there; a writer that sets an entry aside next makes a new folder.
                self.folder.rename(self._taken)
        whole = [content for path, content in _contents(self._taken) if self._is_whole(path, content)]
        # A dead process may have written them to the array and not removed them. Only then are they looked for,
        # because it costs a search of the whole file.
        yield [entry for entry in whole if not (left_by_dead_process and self._is_in_array(entry))]
        # Only after the block has written them: a process that dies before this leaves them to the next holder.
        _remove(self._taken)

    def _is_whole(self, path: Path, content: bytes) -> bool:
        """Return whether a file holds an entry; move what a power cut left of one to beside the array."""
        if load_object(content) is not None:
            return True
        path.rename(self._array.with_name(f"{self._array.name}.{path.name}.damaged"))
        return False

    def _is_in_array(self, entry: bytes) -> bool:
        """Return whether an entry that is set aside has been added already."""
        # The first write after a process died adds what that process had taken: one rotation can come between.
        return any(_contains(path, entry) for path in (self._array, *rotated(self._array)[:1]))


def _remove(folder: Path) -> None:
    """Remove a folder and what is in it. Raises OSError.

    A writer that had opened the folder before it was taken may still make its file there, and
    then notice that it has to make it anew elsewhere.
    """
    left = _ATTEMPTS
    while folder.exists():
        left -= 1
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            continue
        except OSError as problem:
            if problem.errno != errno.ENOTEMPTY or not left:
                raise


def _contents(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield the path and the content of each file that is an entry's by its name, oldest first. Raises OSError."""
    try:
        # By name is by time: the digits in front have one width.
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return
    for name in names:
        path = folder / name
        if name.endswith(".json"):
            with contextlib.suppress(FileNotFoundError):  # a reader without the lock: added to the array meanwhile
                yield path, b"" if path.is_dir() else read_bytes(path)


def _write_and_rename(content: bytes, new: Path, path: Path) -> None:
    """Write a new file and give it its name in one step. Raises OSError, and then leaves nothing behind."""
    fd = open_file(new, _NEW)
    try:
        write_whole(fd, content)
        new.rename(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)


def _contains(path: Path, entry: bytes) -> bool:
    """Return whether a file holds these bytes. Reads the whole file at worst."""
    with (
        contextlib.suppress(FileNotFoundError, ValueError),  # ValueError: the file is empty
        open_to_read(path) as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        return content.find(entry) >= 0
    return False
