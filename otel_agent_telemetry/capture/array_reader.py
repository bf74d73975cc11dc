"""Reading an array file from its newest entry backwards, as far as the caller needs.

Lines as `array_file` writes them are parsed one by one, from the end. Where the lines of
another program begin, the rest is parsed as a whole. The file may grow meanwhile; the
entries are those of the array when it was opened. The head of an entry that is being written,
or that a crash left, is skipped.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeGuard

from otel_agent_telemetry.capture.array_tail import loads, read_at

Entry = dict[str, Any]

_BLOCK: Final = 1 << 18
_SPACE: Final = b" \t\r\n\0"
_PUNCTUATION: Final = b" \t\r\n\0,]"
_MOMENT: Final = r"\.\d{8}T\d{6}\.\d{6}Z"


def newest_first(path: Path) -> Iterator[Entry]:
    """Yield the entries of the file, and of those that it was rotated to, newest first. Raises OSError.

    A missing file has no entries. Elements that are no JSON object are skipped.
    """
    seen: set[int] = set()
    yield from _unseen(path, seen)
    for part in rotated(
        path
    ):  # listed after the file was opened: one that is rotated meanwhile is found twice, not missed
        yield from _unseen(part, seen)


def _unseen(path: Path, seen: set[int]) -> Iterator[Entry]:
    """Yield the entries of one file, newest first, unless its inode is among those seen."""
    with contextlib.suppress(FileNotFoundError), _opened(path) as fd:
        status = os.fstat(fd)
        if status.st_ino not in seen:
            seen.add(status.st_ino)
            yield from _backwards(fd, status.st_size)


def rotated(path: Path) -> list[Path]:
    """Return the dated files that the array at `path` was rotated to, newest first. Raises OSError."""
    name = re.compile(re.escape(path.stem) + _MOMENT + re.escape(path.suffix))
    try:
        found = [item for item in os.listdir(path.parent) if name.fullmatch(item)]
    except FileNotFoundError:
        return []
    return [path.with_name(item) for item in sorted(found, reverse=True)]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        yield fd
    finally:
        os.close(fd)


def _backwards(fd: int, size: int) -> Iterator[Entry]:
    """Yield the entries of lines, the last first, then those of another program's beginning; skip damaged lines."""
    tried_whole = False
    for line, start in _lines_backwards(fd, size):
        text = line.strip(_PUNCTUATION)
        if not text or (text == b"[" and start == 0):
            continue
        entry = loads(text)
        if _is_entry(entry):
            yield entry
        elif not tried_whole and not line.startswith(b'{"'):  # not one of our lines, torn: another program's form
            tried_whole = True
            if (elements := _foreign(read_at(fd, 0, start + len(line)))) is not None:
                yield from filter(_is_entry, reversed(elements))
                return


def _lines_backwards(fd: int, size: int) -> Iterator[tuple[bytes, int]]:
    """Yield each line without its line feed, and the offset where it begins; the last line first."""
    held, at = b"", size
    while at > 0:
        count = min(at, max(_BLOCK, len(held)))
        at -= count
        held = read_at(fd, at, count) + held
        first = held.find(b"\n")
        if first < 0:
            continue
        end = len(held)
        while (feed := held.rfind(b"\n", first, end)) >= 0:
            yield held[feed + 1 : end], at + feed + 1
            end = feed
        held = held[:end]
    yield held, 0


def _foreign(head: bytes) -> list[Any] | None:
    """Return the elements of another program's array in any form, closed, or followed by our comma or nothing."""
    for text in (head.strip(_SPACE), head.rstrip(_PUNCTUATION) + b"]"):
        if isinstance(elements := loads(text), list):
            return elements
    return None


def _is_entry(value: Any) -> TypeGuard[Entry]:
    return isinstance(value, dict)
