"""Where the elements of a JSON array file end, found from its last bytes.

The file is read from behind, a block at a time, so that what an entry costs does not depend
on how many there are. What a write that was cut short leaves behind is recognised and left
out; a file that no element can be added to has no end here.

A closing bracket alone on the last line, behind a line that is an entry, closes the array:
an entry is one line, so no torn one ends like that. Any other bracket may be anything's, and
the whole is looked at.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any, Final, NamedTuple

import orjson

_BLOCK: Final = 4096
_HEAD: Final = 64
"""An array's opening bracket is one of the first bytes."""
_MAX_LINE: Final = 16 << 20
"""Past this length a last line is not looked into."""
_MAX_WHOLE: Final = 4 << 20
"""Past this size an array in another program's form is not parsed: the application's thread waits for it."""
_SPACE: Final = b" \t\r\n\0"
"""JSON's white space, and the zeros that a power cut leaves where bytes were to be."""
_CLOSED: Final = b"}\n]\n"
"""How a file ends that we wrote last."""


class ArrayEnd(NamedTuple):
    """Where the next element goes: the offset behind the last one, and whether there is none."""

    offset: int
    empty: bool


def find_end(fd: int, size: int) -> ArrayEnd | None:
    """The end of the elements in a file of `size` bytes; None when it holds no array to add to.

    An empty file is an array without elements. Reads a few kilobytes, more only where the
    last line is longer; where another program chose the form the whole, up to 4 MiB: once,
    because our next entry ends the file. Of a larger one the end is believed. Raises OSError.
    """
    head = read_at(fd, 0, _HEAD).strip(_SPACE)
    if not head.startswith(b"["):
        return ArrayEnd(0, empty=True) if not head and size <= _HEAD else None
    if size > len(_CLOSED) and read_at(fd, size - len(_CLOSED), len(_CLOSED)) == _CLOSED:
        return ArrayEnd(size - len(_CLOSED) + 1, empty=False)
    tail = _Tail(fd, size)
    line = tail.last_line()
    return (_end_by_lines(tail, line) if line is not None else None) or _end_of_whole(fd, size)


def _end_by_lines(tail: _Tail, line: bytes) -> ArrayEnd | None:
    """The end as the last two lines tell it."""
    if line == b"]":
        tail.end -= len(line)
        before = tail.last_line()
        return tail.opening(before) or (_end_in_line(tail, before) if before is not None else None)
    return tail.opening(line) or _end_in_line(tail, line) or _end_before_torn(tail, line)


def _end_in_line(tail: _Tail, line: bytes) -> ArrayEnd | None:
    """The end within a line that holds a whole entry, and perhaps a comma and a bracket behind it."""
    bare = line.removesuffix(b"]").rstrip(_SPACE).removesuffix(b",").rstrip(_SPACE)
    return ArrayEnd(tail.end - len(line) + len(bare), empty=False) if _is_entry(bare) else None


def _end_before_torn(tail: _Tail, line: bytes) -> ArrayEnd | None:
    """The end in front of a last line that is the head of an entry, of which nobody was told that it is kept."""
    if not line.startswith(b"{"):
        return None
    tail.end -= len(line)
    before = tail.last_line() or b""
    within = _end_in_line(tail, before) if before.endswith(b",") else tail.opening(before)
    return within or _end_of_whole(tail.fd, tail.end)


def _end_of_whole(fd: int, size: int) -> ArrayEnd | None:
    """The end in an array that another program wrote in its own form, closed or followed by our comma."""
    if size > _MAX_WHOLE:
        return _end_believed(fd, size)
    text = read_at(fd, 0, size).rstrip(_SPACE)
    if (elements := _elements(text)) is not None:
        return ArrayEnd(len(text[:-1].rstrip(_SPACE)), empty=not elements)
    text = text.removesuffix(b"]").rstrip(_SPACE).removesuffix(b",")
    return ArrayEnd(len(text), empty=False) if _elements(text + b"]") else None


def _end_believed(fd: int, size: int) -> ArrayEnd | None:
    """The end of a large array that ends as one does: an object and the bracket on one line, or an indented object."""
    text = read_at(fd, size - _BLOCK, _BLOCK).rstrip(_SPACE)
    inside = text.removesuffix(b"]")
    last = inside.rstrip(_SPACE)
    if inside == text or not last.endswith(b"}"):
        return None
    is_indented = last[last.rfind(b"\n") + 1 :][:1] in (b" ", b"\t")
    return ArrayEnd(size - _BLOCK + len(last), empty=False) if is_indented or b"\n" not in inside[len(last) :] else None


def _elements(text: bytes) -> list[object] | None:
    found = loads(text)
    return found if isinstance(found, list) else None


def _is_entry(line: bytes) -> bool:
    """Whether a line is one whole entry as we write them."""
    return line.lstrip(_SPACE)[:1] == b"{" and isinstance(loads(line), dict)


def loads(text: bytes) -> Any:
    """What JSON text says, NaN and lone surrogates as Python's own module writes them included; None for no JSON."""
    with contextlib.suppress(ValueError):
        return orjson.loads(text)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


class _Tail:
    """The bytes of a file up to `end`, read from behind."""

    __slots__ = ("end", "fd")

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.end = size

    def last_line(self) -> bytes | None:
        """The last line that is not blank, up to `end`, which is moved in front of the white space behind it.

        None when it is too long.
        """
        held, start = b"", self.end
        while start > 0 and b"\n" not in held:
            if len(held) > _MAX_LINE:
                return None
            count = min(start, max(len(held), _BLOCK))
            start -= count
            held = (read_at(self.fd, start, count) + held).rstrip(_SPACE)
            self.end = start + len(held)
        return held[held.rfind(b"\n") + 1 :]

    def opening(self, line: bytes | None) -> ArrayEnd | None:
        """The end of an array without elements, when this last line is its opening bracket."""
        if (
            line is None
            or line.strip(_SPACE) != b"["
            or self.end > _BLOCK
            or read_at(self.fd, 0, self.end - 1).strip(_SPACE)
        ):
            return None
        return ArrayEnd(self.end, empty=True)


def read_at(fd: int, offset: int, count: int) -> bytes:
    """Up to `count` bytes from `offset` on. Raises OSError."""
    os.lseek(fd, offset, os.SEEK_SET)
    found = b""
    while len(found) < count and (more := os.read(fd, count - len(found))):
        found += more
    return found
