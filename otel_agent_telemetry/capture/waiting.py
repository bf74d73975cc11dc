"""Entries that found their array file locked: kept beside it, until the background adds them.

A folder `{name}.waiting-{user id}`, made when it is needed and removed when it is empty,
with one file an entry:

    {20 digits: nanoseconds since 1970}-{16 hex digits}.json    the entry, without a line feed
    .{16 hex digits}                                            one that is just being written
    taking                                                      what a holder of the lock is adding

A file is written under its second name and renamed, so that who lists the folder sees whole
entries only, on one host or on several. Files are removed after their entries were written
to the array. A holder that dies between the two would leave entries that are in both:
before it writes it notes in `taking` (JSON: `file`, the array's inode; `offset`, where it
writes; `names`) what it takes, and the next holder looks there, behind that offset, first.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from otel_agent_telemetry.append import PRIVATE_DIR, PRIVATE_FILE, make_private_dir
from otel_agent_telemetry.capture.array_reader import Entry, rotated

_NOTE: Final = "taking"
_ATTEMPTS: Final = 100
_ABANDONED_S: Final = 3600.0
"""After this long a file that was never renamed is its dead writer's."""
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


class WaitingEntries:
    """This user's waiting entries of one array file. `put` from any process; the rest under the array's lock."""

    def __init__(self, array: Path) -> None:
        user = os.getuid() if hasattr(os, "getuid") else 0
        self.folder = array.with_name(f"{array.name}.waiting-{user}")
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

    def put(self, entry: bytes, now_ns: int) -> Path:
        """Keep one entry; on return it survives the death of the process. Raises OSError."""
        token = secrets.token_hex(8)
        place = self.folder / f"{now_ns:020d}-{token}.json"
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(FileNotFoundError):  # the folder is not there yet, or was removed a moment ago
                self._put(entry, f"{self._text}/.{token}", place)
                return place
            make_private_dir(self.folder.parent)
            with contextlib.suppress(FileExistsError):
                self.folder.mkdir(PRIVATE_DIR)
        self._put(entry, f"{self._text}/.{token}", place)
        return place

    def _put(self, entry: bytes, new: str, place: Path) -> None:
        fd = os.open(new, _NEW, PRIVATE_FILE)
        try:
            _write_whole(fd, entry)
            os.rename(new, place)  # noqa: PTH104 - the application's thread: no Path is made
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(new)  # noqa: PTH108 - likewise
            raise
        finally:
            os.close(fd)

    def names(self) -> list[str]:
        """What waits, oldest first. Raises OSError."""
        try:
            found = os.listdir(self._text)
        except FileNotFoundError:
            return []
        return sorted(name for name in found if name.endswith(".json") and name not in self._stuck)

    def entries(self) -> list[Entry]:
        """All that waits, oldest first, without what is damaged. Raises OSError."""
        found = [_parsed(entry) for _, entry in self._read(self.names())]
        return [entry for entry in found if entry is not None]

    def _read(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        for name in names:
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):  # another holder's, a moment ago; no entry
                yield name, (self.folder / name).read_bytes()

    @contextlib.contextmanager
    def taken(self, names: Sequence[str], array: Path, offset: int) -> Iterator[list[bytes]]:
        """Some of the entries, for the holder of the lock to add within the block, after which they are gone.

        `offset`: where in the array they will be written. A block that raises leaves
        everything to the next holder's `finish`. Raises OSError.
        """
        found = [(name, entry) for name, entry in self._read(names) if self._is_whole(name, entry, array)]
        if found:
            self._note({"file": array.stat().st_ino, "offset": offset, "names": [name for name, _ in found]})
        yield [entry for _, entry in found]
        self._remove([name for name, _ in found])

    def _is_whole(self, name: str, entry: bytes, array: Path) -> bool:
        """Whether a file holds an entry. What a power cut left of one is put beside the array instead."""
        if _parsed(entry) is not None:
            return True
        (self.folder / name).rename(array.with_name(f"{array.name}.{name}.damaged"))
        return False

    def _note(self, note: dict[str, Any]) -> None:
        new = self.folder / f".{secrets.token_hex(8)}"
        new.write_bytes(orjson.dumps(note))
        new.replace(self.folder / _NOTE)

    def finish(self, array: Path) -> None:
        """After a holder that died: remove those of its entries that are in the array already."""
        try:
            note = orjson.loads((self.folder / _NOTE).read_bytes())
            names, offset, inode = list(note["names"]), int(note["offset"]), int(note["file"])
        except (OSError, ValueError, KeyError, TypeError):
            return
        written = _behind(array, offset, inode)
        self._remove([name for name, entry in self._read(names) if entry in written])

    def _remove(self, names: Sequence[str]) -> None:
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


def _write_whole(fd: int, content: bytes) -> None:
    written = os.write(fd, content)
    if written != len(content):
        raise OSError(28, f"only {written} of {len(content)} bytes could be written")


def _parsed(entry: bytes) -> Entry | None:
    try:
        found = orjson.loads(entry)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _behind(array: Path, offset: int, inode: int) -> bytes:
    """What was written to the array behind an offset, also when the file has been rotated since."""
    for path in (array, *rotated(array)):
        with contextlib.suppress(OSError), path.open("rb") as file:
            if os.fstat(file.fileno()).st_ino == inode:
                file.seek(offset)
                return file.read()
    return b""
