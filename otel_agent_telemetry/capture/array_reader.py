"""Reading a JSON array file backwards: its newest entries, and where its elements end.

Lines as `array_file` writes them are parsed one by one, from the end. Where the lines of
another program begin, the rest is parsed as a whole. The file may grow meanwhile; the
entries are those of the array when it was opened. The head of an entry that is being written,
or that a crash left, is skipped.

`find_end` reads a block at a time, so that the cost of an entry does not depend on the number of
entries. The remains of a write that was cut short are recognised and skipped. A closing bracket
alone on the last line, after a line that is an entry, closes the array: an entry is one line, so
no torn entry ends like that. Any other bracket may belong to an inner array, so the file is
parsed as a whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeGuard

import orjson

from otel_agent_telemetry.trusted_files import open_file

Entry = dict[str, Any]

_TAIL_BLOCK: Final = 4096
_HEAD: Final = 64
"""An array's opening bracket is one of the first bytes."""
_MAX_LINE: Final = 16 << 20
"""Past this length a last line is not parsed."""
_MAX_WHOLE: Final = 4 << 20
"""Past this size an array in another program's form is not parsed, because the application's thread would wait."""
_SPACE: Final = b" \t\r\n\0"
"""JSON's white space, and the zeros that a power cut leaves in place of bytes that were not written."""
_PUNCTUATION: Final = b" \t\r\n\0,]"
_BLOCK: Final = 1 << 18
_MOMENT: Final = r"\.\d{8}T\d{6}\.\d{6}Z"
_CLOSED: Final = b"}\n]\n"
"""The end of a file that `array_file` wrote last."""


class ArrayEnd(NamedTuple):
    """Where the next element goes: the offset after the last one, and whether there is none."""

    offset: int
    empty: bool


def find_end(fd: int, size: int) -> ArrayEnd | None:
    """Return the end of the elements in a file of `size` bytes; None when it is no array.

    An empty file counts as an array without elements. Reads a few kilobytes, more only when
    the last line is longer. A file in another program's form is parsed as a whole up to
    4 MiB, which happens once, because our next entry ends the file; of a larger one only the
    last block is checked. Raises OSError.
    """
    head = read_at(fd, 0, _HEAD).strip(_SPACE)
    if not head.startswith(b"["):
        # Blanks and zeros alone: a new file, or one that a power cut has left without content.
        return ArrayEnd(0, empty=True) if not head and size <= _HEAD else None
    if size > len(_CLOSED) and read_at(fd, size - len(_CLOSED), len(_CLOSED)) == _CLOSED:
        return ArrayEnd(size - len(_CLOSED) + 1, empty=False)
    tail = _Tail(fd, size)
    line = tail.last_line()
    return (_end_by_lines(tail, line) if line is not None else None) or _end_of_whole(fd, size)


def _end_by_lines(tail: _Tail, line: bytes) -> ArrayEnd | None:
    """Return the end if the last two lines show it."""
    if line == b"]":
        tail.end -= len(line)
        before = tail.last_line()
        return tail.opening(before) or (_end_in_line(tail, before) if before is not None else None)
    return tail.opening(line) or _end_in_line(tail, line) or _end_before_torn(tail, line)


def _end_in_line(tail: _Tail, line: bytes) -> ArrayEnd | None:
    """Return the end within a line that has a whole entry, perhaps followed by a comma and a bracket."""
    bare = line.removesuffix(b"]").rstrip(_SPACE).removesuffix(b",").rstrip(_SPACE)
    return ArrayEnd(tail.end - len(line) + len(bare), empty=False) if _is_entry_line(bare) else None


def _end_before_torn(tail: _Tail, line: bytes) -> ArrayEnd | None:
    """Return the end before a last line that is the head of an entry, which was never acknowledged."""
    if not line.startswith(b"{"):
        return None
    tail.end -= len(line)
    before = tail.last_line() or b""
    within = _end_in_line(tail, before) if before.endswith(b",") else tail.opening(before)
    return within or _end_of_whole(tail.fd, tail.end)


def _end_of_whole(fd: int, size: int) -> ArrayEnd | None:
    """Return the end of an array in another program's form, closed or followed by our comma."""
    if size > _MAX_WHOLE:
        return _end_of_large(fd, size)
    text = read_at(fd, 0, size).rstrip(_SPACE)
    if (elements := _elements(text)) is not None:
        return ArrayEnd(len(text[:-1].rstrip(_SPACE)), empty=not elements)
    text = text.removesuffix(b"]").rstrip(_SPACE).removesuffix(b",")
    return ArrayEnd(len(text), empty=False) if _elements(text + b"]") else None


def _end_of_large(fd: int, size: int) -> ArrayEnd | None:
    """Return the end of a large array whose last block looks like one: `}]` on one line, or an indented object."""
    text = read_at(fd, size - _TAIL_BLOCK, _TAIL_BLOCK).rstrip(_SPACE)
    inside = text.removesuffix(b"]")
    last = inside.rstrip(_SPACE)
    if inside == text or not last.endswith(b"}"):
        return None
    is_indented = last[last.rfind(b"\n") + 1 :][:1] in (b" ", b"\t")
    return (
        ArrayEnd(size - _TAIL_BLOCK + len(last), empty=False)
        if is_indented or b"\n" not in inside[len(last) :]
        else None
    )


def _elements(text: bytes) -> list[object] | None:
    """Return the elements of the text of an array; None for anything else."""
    found = loads(text)
    return found if isinstance(found, list) else None


def _is_entry_line(line: bytes) -> bool:
    """Return whether a line is one whole entry as `array_file` writes it."""
    return line.lstrip(_SPACE)[:1] == b"{" and isinstance(loads(line), dict)


def loads(text: bytes) -> Any:
    """Parse JSON text, NaN and lone surrogates of Python's `json` included; return None for text that is no JSON."""
    with contextlib.suppress(ValueError):
        return orjson.loads(text)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


class _Tail:
    """The bytes of a file up to `end`, read backwards."""

    __slots__ = ("end", "fd")

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.end = size

    def last_line(self) -> bytes | None:
        """Return the last line that is not blank and move `end` to its end, before trailing white space.

        None when it is too long.
        """
        held, start = b"", self.end
        while start > 0 and b"\n" not in held:
            if len(held) > _MAX_LINE:
                return None
            count = min(start, max(len(held), _TAIL_BLOCK))
            start -= count
            held = (read_at(self.fd, start, count) + held).rstrip(_SPACE)
            self.end = start + len(held)
        return held[held.rfind(b"\n") + 1 :]

    def opening(self, line: bytes | None) -> ArrayEnd | None:
        """Return the end of an array without elements, if this last line is its opening bracket."""
        if (
            line is None
            or line.strip(_SPACE) != b"["
            or self.end > _TAIL_BLOCK
            or read_at(self.fd, 0, self.end - 1).strip(_SPACE)
        ):
            return None
        return ArrayEnd(self.end, empty=True)


def read_at(fd: int, offset: int, count: int) -> bytes:
    """Return up to `count` bytes from `offset` on. Raises OSError."""
    os.lseek(fd, offset, os.SEEK_SET)
    found = b""
    while len(found) < count and (more := os.read(fd, count - len(found))):
        found += more
    return found


def newest_first(path: Path) -> Iterator[Entry]:
    """Yield the entries of the file, and of those that it was rotated to, newest first. Raises OSError.

    A missing file has no entries. Elements that are no JSON object are skipped.
    """
    seen: set[int] = set()
    yield from _unseen(path, seen)
    # Listed after the file was opened: one that is rotated meanwhile is found twice, not missed.
    for part in rotated(path):
        yield from _unseen(part, seen)


def _unseen(path: Path, seen: set[int]) -> Iterator[Entry]:
    """Yield the entries of one file, newest first, unless its inode is among those seen."""
    with contextlib.suppress(FileNotFoundError), _opened(path) as fd:
        status = os.fstat(fd)
        # By inode: a file that is rotated while this reads appears under two names.
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
    """Yield a descriptor for reading, and close it."""
    fd = open_file(path, os.O_RDONLY)
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
        # A block is at least as long as what is held, so a line of any length is copied a few times and not once a
        # block.
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
    """Return whether an element is an object: an array of another program may hold anything."""
    return isinstance(value, dict)
