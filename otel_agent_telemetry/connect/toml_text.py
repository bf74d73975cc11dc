"""Changes to tables of a TOML file that leave every other byte as it is.

Only where statements stand is found here (headers of tables, and keys with their values); what they mean is asked of
`tomllib`, before and after each change. A library that keeps comments would be a further dependency, for one table
of one agent.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from otel_agent_telemetry.connect.place import Document, NotReadableError, Place

_KEY_END: Final = re.compile(r"""(?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[^"'=\n])*=""")
_HEADER: Final = re.compile(r"""\[(?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[^"'\]\n])*\]+""")
_STRING: Final = re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'', re.DOTALL)
_COMMENT: Final = re.compile(r"#[^\n]*")
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


class _Statement(NamedTuple):
    """A header or a key with its value: whole lines from `start` up to `end`, the value from `at` up to `until`."""

    place: Place
    is_header: bool
    start: int
    end: int
    at: int = 0
    until: int = 0
    table: Place = ()
    """Of a key, the header that it is behind."""


class TomlText(Document):
    """The text of a TOML file. Places are a table of the top level and a key in it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._parse()

    def _parse(self) -> None:
        """Read the text."""
        try:
            self.data = tomllib.loads(self.text.removeprefix("\ufeff"))
        except tomllib.TOMLDecodeError as problem:
            where = re.search(r"at line \d+", str(problem))
            raise NotReadableError(f"it is no TOML{f' {where[0]}' if where else ''}") from None
        self._statements = list(_statements(self.text))

    def source(self, place: Place) -> str | None:
        """Return the text of the value at a place, None where there is none; of tables a line end and their lines."""
        found = self._key(place)
        if found is not None:
            return self.text[found.at : found.until]
        lines = "".join(self.text[one.start : one.end] for one in self._parts(place))
        return f"\n{lines}" if lines else None

    def inside(self, place: Place) -> str | None:
        """Return "" for a table that has a header and no key behind it; None for any other place."""
        header = self._header(place)
        return "" if header is not None and not self._own(header)[1:] else None

    def is_made_for(self, place: Place) -> bool:
        """Return whether a table has no header of its own, or no key behind it; the top of the file has neither."""
        return bool(place) and (self._header(place) is None or self.inside(place) is not None)

    def empty(self, place: Place, inside: str | None) -> None:
        """Remove the header of a table without keys, and the blank line before it, with None; else leave it."""
        header = self._header(place)
        if inside is None and header is not None and not self._own(header)[1:]:
            blank = len(self.newline) if self.text[: header.start].endswith(self.newline * 2) else 0
            self._splice((header.start - blank, header.end, ""))

    def _write(self, place: Place, value: Any) -> None:
        """Set a key of a table: on its line, else behind the table's last key, else in a new table at the end."""
        self._write_source(place, toml_value(value))

    def _write_source(self, place: Place, source: str) -> None:
        """Set a value by its text, or bring lines back: what `source` returned."""
        found, lines = self._key(place), source.startswith("\n")
        if found is not None and not lines:
            self._splice((found.at, found.until, source))
            return
        for part in reversed(self._parts(place)):
            self._splice((part.start, part.end, ""))
        # Tables may stand anywhere, so they come back at the end of the file.
        if source.startswith("\n["):
            self._insert(len(self.text), source[1:].rstrip("\r\n"))
        else:
            self._add(place, source[1:].rstrip("\r\n") if lines else f"{toml_key(place[-1])} = {source}")

    def _add(self, place: Place, line: str) -> None:
        """Add a line with a key: behind the last one of its table, which is made where it is missing."""
        header = self._header(place[:-1])
        if header is not None:
            self._insert(self._own(header)[-1].end, line)
        elif any(one.place[:1] == place[:1] != one.table[:1] for one in self._statements if not one.is_header):
            raise NotReadableError(f"{place[0]} is no table with lines of its own; write {'.'.join(place)} by hand")
        else:
            # A new table at the end is of the top level, whatever table the file ends with.
            gap = self.newline if self.text.strip() else ""
            self._insert(len(self.text), f"{gap}[{'.'.join(map(toml_key, place[:-1]))}]{self.newline}{line}")

    def _insert(self, at: int, lines: str) -> None:
        """Insert lines where a line begins, or at the end of a file without a last line end."""
        broken = self.newline if at and self.text[at - 1] != "\n" else ""
        self._splice((at, at, f"{broken}{lines}{self.newline}"))

    def _remove(self, place: Place) -> None:
        """Remove the lines of a key, or of the tables that a place is."""
        if not self._parts(place):
            raise NotReadableError(f"{'.'.join(place)} is not on lines of its own; remove it by hand")
        for part in reversed(self._parts(place)):
            self._splice((part.start, part.end, ""))

    def _own(self, header: _Statement) -> list[_Statement]:
        """Return a header and the keys behind it, up to the next header."""
        rest = [one for one in self._statements if one.start >= header.start]
        return rest[: next((at for at, one in enumerate(rest) if at and one.is_header), len(rest))]

    def _parts(self, place: Place) -> list[_Statement]:
        """Return the statements that make up a place: one key, or tables and dotted keys."""
        return [one for one in self._statements if one.place[: len(place)] == place]

    def _key(self, place: Place) -> _Statement | None:
        """Return the statement that sets exactly this place."""
        return next((one for one in self._statements if one.place == place and not one.is_header), None)

    def _header(self, place: Place) -> _Statement | None:
        """Return the header of a table."""
        return next((one for one in self._statements if one.place == place and one.is_header), None)


def toml_value(value: Any) -> str:
    """Return a value in TOML, a mapping as an inline table on one line."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{toml_key(name)} = {toml_value(one)}" for name, one in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_key(name: str) -> str:
    """Return a key in TOML, in quotes where it must be."""
    return name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def _statements(text: str) -> Iterator[_Statement]:
    """Yield the statements of a text that is TOML."""
    table: Place = ()
    position = int(text.startswith("\ufeff"))
    while position < len(text):
        line_end = _line_end(text, position)
        begin = position + len(text[position:line_end]) - len(text[position:line_end].lstrip())
        if begin >= line_end or text[begin] == "#":
            position = line_end
        elif text[begin] == "[":
            header = _HEADER.match(text, begin)
            assert header is not None
            table = _names(f"{header[0].strip('[]').strip()}", is_header=True)
            yield _Statement(table, True, position, line_end)  # noqa: FBT003 - a field of a tuple
            position = line_end
        else:
            key = _KEY_END.match(text, begin)
            assert key is not None
            value_at = key.end() + len(text[key.end() :]) - len(text[key.end() :].lstrip(" \t"))
            until = _value_end(text, value_at)
            end = _line_end(text, until)
            yield _Statement(table + _names(key[0][:-1]), False, position, end, value_at, until, table)  # noqa: FBT003
            position = end


def _line_end(text: str, at: int) -> int:
    """Return where the line of a place ends, behind its line end."""
    found = text.find("\n", at)
    return len(text) if found < 0 else found + 1


def _value_end(text: str, at: int) -> int:
    """Return where a value ends: at the end of its line, or where its brackets are closed."""
    depth = 0
    while at < len(text):
        skipped = _STRING.match(text, at) or (_COMMENT.match(text, at) if depth else None)
        if skipped is not None:
            at = skipped.end()
            continue
        sign = text[at]
        if not depth and sign in "\r\n#":
            break
        depth += (sign in "[{") - (sign in "]}")
        at += 1
    return len(text[:at].rstrip(" \t\r"))


def _names(key: str, *, is_header: bool = False) -> Place:
    """Return the names of a dotted key."""
    data = tomllib.loads(f"[{key}]" if is_header else f"{key}=0")
    names: list[str] = []
    while isinstance(data, dict) and data:
        name, data = next(iter(data.items()))
        names.append(name)
    return tuple(names)
