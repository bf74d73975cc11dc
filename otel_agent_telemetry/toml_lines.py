"""On which lines of a TOML text its tables and their keys stand, which Python's parser does not return.

For texts that the parser has accepted, of tables one level deep. Where a key cannot be found, because its
table is written in line, the answer is the line of the table.
"""

from __future__ import annotations

import re
import tomllib
from typing import Final

_HEAD: Final = re.compile(r"^\s*\[(?!\[)(.+?)\]\s*(?:#.*)?$")
_KEY: Final = re.compile(r"""^\s*("[^"]*"|'[^']*'|[A-Za-z0-9_-]+)\s*=""")
_AT: Final = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)")


class TomlLines:
    """The lines of one text, counted from 1."""

    def __init__(self, text: str) -> None:
        self._places: dict[tuple[str, str], int] = {}
        table = ""
        for number, line in enumerate(text.splitlines(), start=1):
            if head := _HEAD.match(line):
                table = _unquoted(head[1])
                self._places.setdefault((table, ""), number)
            # The first place counts: a text of several lines may hold something that looks like a key.
            elif key := _KEY.match(line):
                self._places.setdefault((table, _unquoted(key[1])), number)

    def of(self, table: str, key: str = "") -> int:
        """Return the line of a key of a table, or else of the table; 1 where neither is found."""
        places = ((table, key), (table, ""), ("", table))
        return next((self._places[place] for place in places if place in self._places), 1)


def _unquoted(key: str) -> str:
    """Return a key as the parser reads it; text that is none stays as it is."""
    try:
        return next(iter(tomllib.loads(f"{key} = 0")))
    except tomllib.TOMLDecodeError:
        return key


def fault_of(problem: tomllib.TOMLDecodeError, text: str) -> tuple[int, str]:
    """Return the line at which a text is no TOML, and why."""
    message = str(problem)
    found = _AT.search(message)
    line = int(found[1]) if found and found[1] else max(len(text.splitlines()), 1)
    return line, _AT.sub("", message)
