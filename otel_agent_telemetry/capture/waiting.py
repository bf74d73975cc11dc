"""Entries that found their array file locked: kept beside it, until whoever locks it next adds them.

A folder `{name}.waiting`, made when it is needed and removed in the background, with one file an entry:

    {20 digits: nanoseconds since 1970}-{16 hex digits}.json    the entry, without a line feed
    .{16 hex digits}                                            one that is just being written
    taking                                                      what the holder is adding

A file is written under its second name and renamed, so that who lists the folder sees whole
entries only, on one host or on several. Files are removed after their entries were written
to the array. A holder that dies between the two would leave entries that are in both:
before it writes it notes in `taking` (JSON: `file`, the array's inode; `offset`, its size;
`names`) what it takes, and the next holder looks there, behind that offset, first.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import orjson

from otel_agent_telemetry.append import PRIVATE_DIR, PRIVATE_FILE, make_private_dir

_NOTE: Final = "taking"
_ATTEMPTS: Final = 100
_ABANDONED_S: Final = 3600.0
"""After this long a file that was never renamed is its dead writer's."""


class WaitingEntries:
    """The waiting entries of one array file. `put` from any process; the rest under the array's lock."""

    def __init__(self, array: Path) -> None:
        self.folder = array.with_name(f"{array.name}.waiting")
        self._text = str(self.folder)
        self._stuck: set[str] = set()
        """What is in the array and could not be removed here."""

    def any(self) -> bool:
        """Whether the folder is there: one system call."""
        try:
            os.stat(self._text)
        except OSError:
            return False
        return True

    def put(self, entry: bytes, now_ns: int) -> None:
        """Keep one entry; on return it survives the death of the process. Raises OSError."""
        token = secrets.token_hex(8)
        name = f"{now_ns:020d}-{token}.json"
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(FileNotFoundError):  # the folder is not there yet, or was removed a moment ago
                self._put(entry, token, name)
                return
            make_private_dir(self.folder.parent)
            with contextlib.suppress(FileExistsError):
                self.folder.mkdir(PRIVATE_DIR)
        self._put(entry, token, name)

    def _put(self, entry: bytes, token: str, name: str) -> None:
        new = f"{self._text}/.{token}"
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
        try:
            written = os.write(fd, entry)
        finally:
            os.close(fd)
        if written != len(entry):
            Path(new).unlink()
            raise OSError(28, f"only {written} of {len(entry)} bytes could be written", new)
        os.rename(new, f"{self._text}/{name}")  # noqa: PTH104 - the application's thread: no Path is made

    def names(self) -> list[str]:
        """What waits, oldest first. Raises OSError."""
        try:
            found = os.listdir(self._text)
        except FileNotFoundError:
            return []
        return sorted(name for name in found if name.endswith(".json") and name not in self._stuck)

    def entries(self) -> list[bytes]:
        """All that waits, oldest first. Raises OSError."""
        return [entry for _, entry in self._read(self.names())]

    def _read(self, names: list[str]) -> Iterator[tuple[str, bytes]]:
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # another reader's list, a moment ago
                yield name, (self.folder / name).read_bytes()

    @contextlib.contextmanager
    def taken(self, most: int, array: Path, size: int) -> Iterator[list[bytes]]:
        """The oldest entries, for the holder of the lock to add within the block, after which they are gone.

        `size`: of the array now. A block that raises takes nothing. Raises OSError.
        """
        self._finish_what_was_taken(array)
        found = [(name, entry) for name, entry in self._read(self.names()[:most]) if self._is_whole(name, entry, array)]
        if found:
            note = {"file": array.stat().st_ino, "offset": size, "names": [name for name, _ in found]}
            self._note(note)
        try:
            yield [entry for _, entry in found]
        except BaseException:
            self._unlink(_NOTE)
            raise
        self._remove([name for name, _ in found])

    def _is_whole(self, name: str, entry: bytes, array: Path) -> bool:
        """Whether a file holds an entry. What a power cut left of one is put beside the array instead."""
        with contextlib.suppress(ValueError):
            if isinstance(orjson.loads(entry), dict):
                return True
        (self.folder / name).rename(array.with_name(f"{array.name}.{name}.damaged"))
        return False

    def _note(self, note: dict[str, Any]) -> None:
        new = self.folder / f".{secrets.token_hex(8)}"
        new.write_bytes(orjson.dumps(note))
        new.replace(self.folder / _NOTE)

    def _finish_what_was_taken(self, array: Path) -> None:
        """A holder died: remove those of its entries that are in the array already."""
        try:
            note = orjson.loads((self.folder / _NOTE).read_bytes())
            names, offset, inode = list(note["names"]), int(note["offset"]), int(note["file"])
        except (OSError, ValueError, KeyError, TypeError):
            return
        written = _behind(array, offset, inode)
        self._remove([name for name, entry in self._read(names) if entry in written])

    def _remove(self, names: list[str]) -> None:
        self._stuck.update(name for name in names if not self._unlink(name))
        self._unlink(_NOTE)

    def tidy(self) -> None:
        """Remove the folder if it is empty, else what writers left that died before their entry was whole."""
        with contextlib.suppress(OSError):
            self.folder.rmdir()
            return
        limit = time.time() - _ABANDONED_S
        with contextlib.suppress(OSError), os.scandir(self._text) as items:
            for item in items:
                if item.name.startswith(".") and item.stat().st_mtime < limit:
                    self._unlink(item.name)

    def _unlink(self, name: str) -> bool:
        """Remove a file of the folder; False when it is still there."""
        try:
            (self.folder / name).unlink()
        except FileNotFoundError:
            pass
        except OSError:
            return False
        return True


def _behind(array: Path, offset: int, inode: int) -> bytes:
    """What was written to the array behind an offset; the file may have been rotated by the write itself."""
    with contextlib.suppress(OSError), array.open("rb") as file:
        same = os.fstat(file.fileno()).st_ino == inode
        file.seek(max(offset - 8, 0) if same else 0)
        return file.read()
    return b""
