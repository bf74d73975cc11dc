"""Changes to a JSON file with comments that leave every other byte as it is.

A parser of JSON with `//` and `/* */` comments and commas at the end keeps where each value stands; a change
replaces, adds or removes the text of one member. Comments, order, indentation and line ends of all others stay.
A library that reads and writes the whole file would keep the values alone.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

from otel_agent_telemetry.connect.place import MISSING, Document, NotReadableError, Place

_SPACE: Final = re.compile(r"(?:[ \t\r\n\ufeff]+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_STRING: Final = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_ATOM: Final = re.compile(r"true|false|null|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_MAX_DEPTH: Final = 100
_BLANKS: Final = " \t\r\n"


@dataclass(slots=True)
class _Node:
    """A value and where its text stands: from `start` up to `end`."""

    start: int
    end: int
    value: Any
    members: dict[str, _Member] | None = None
    """Of an object, by name; of two with one name the last, which is the one that counts."""


@dataclass(slots=True)
class _Member:
    """A member of an object: where its name begins, and its value."""

    start: int
    node: _Node


@dataclass(slots=True)
class _Reader:
    """Reads one text from its start to its end."""

    text: str
    at: int = 0
    depth: int = field(default=0)

    def document(self) -> _Node:
        """Return the value that the text is. Raises NotReadableError."""
        node = self._value()
        self._skip()
        if self.at != len(self.text):
            raise self._problem("something stands behind the end")
        return node

    def _skip(self) -> None:
        """Go on to what is neither blank nor comment."""
        found = _SPACE.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def _value(self) -> _Node:
        """Return the next value."""
        self._skip()
        start = self.at
        sign = self.text[start : start + 1]
        if sign in ("{", "["):
            self.depth += 1
            if self.depth > _MAX_DEPTH:
                raise self._problem("values are nested too deeply")
            node = self._object() if sign == "{" else self._array()
            self.depth -= 1
            return node
        found = (_STRING if sign == '"' else _ATOM).match(self.text, start)
        if found is None:
            raise self._problem("a value is expected")
        self.at = found.end()
        try:
            return _Node(start, self.at, json.loads(found[0]))
        except ValueError:
            raise self._problem("a text has an unknown escape") from None

    def _object(self) -> _Node:
        """Return the object that begins here."""
        start, members = self.at, dict[str, _Member]()
        self.at += 1
        while not self._is_over("}"):
            name_at = self.at
            name = self._value()
            self._skip()
            if not isinstance(name.value, str) or self.text[self.at : self.at + 1] != ":":
                raise self._problem("a name and a colon are expected")
            self.at += 1
            members[name.value] = _Member(name_at, self._value())
            self._comma("}")
        self.at += 1
        return _Node(start, self.at, {name: member.node.value for name, member in members.items()}, members)

    def _array(self) -> _Node:
        """Return the array that begins here."""
        start, items = self.at, list[Any]()
        self.at += 1
        while not self._is_over("]"):
            items.append(self._value().value)
            self._comma("]")
        self.at += 1
        return _Node(start, self.at, items)

    def _is_over(self, end: str) -> bool:
        """Return whether the end of an object or an array comes next."""
        self._skip()
        return self.text[self.at : self.at + 1] == end

    def _comma(self, end: str) -> None:
        """Go past the comma behind a member; before the end there need be none."""
        self._skip()
        if self.text[self.at : self.at + 1] == ",":
            self.at += 1
        elif self.text[self.at : self.at + 1] != end:
            raise self._problem(f"a comma or {end} is expected")

    def _problem(self, rule: str) -> NotReadableError:
        """Return the error of this place; it quotes nothing of the file, which may hold secrets."""
        return NotReadableError(f"line {self.text.count(chr(10), 0, self.at) + 1}: {rule}")


class JsonText(Document):
    """The text of a JSON file whose outermost value is an object; an empty file counts as one without members."""

    def __init__(self, text: str) -> None:
        super().__init__(text if text.strip("\ufeff \t\r\n") else f"{text}{{}}\n")
        self._parse()

    def _parse(self) -> None:
        """Read the text."""
        self._root = _Reader(self.text).document()
        self.data = self._root.value
        if self._root.members is None:
            raise NotReadableError("its outermost value is no object")

    def source(self, place: Place) -> str | None:
        """Return the text of the value at a place, None where there is none."""
        node = self._node(place)
        return None if node is None else self.text[node.start : node.end]

    def inside(self, place: Place) -> str | None:
        """Return the text inside of an object that has no members; None for any other place."""
        node = self._node(place)
        return self.text[node.start + 1 : node.end - 1] if node is not None and node.members == {} else None

    def is_made_for(self, place: Place) -> bool:
        """Return whether an object is missing or has no members."""
        return self.value(place) is MISSING or self.inside(place) is not None

    def empty(self, place: Place, inside: str | None) -> None:
        """Give an object without members the text inside that it once had, or remove it; a comment in it stays."""
        node = self._node(place)
        if node is None or node.members != {} or self.text[node.start + 1 : node.end - 1].strip():
            return
        if inside is not None:
            self._splice((node.start + 1, node.end - 1, inside))
        elif place:
            self._remove(place)

    def _node(self, place: Place) -> _Node | None:
        """Return the value at a place with where it stands."""
        node = self._root
        for name in place:
            if node.members is None or name not in node.members:
                return None
            node = node.members[name].node
        return node

    def _write(self, place: Place, value: Any) -> None:
        """Set a value, and make the objects above it that are missing."""
        depth = next(depth for depth in range(len(place), -1, -1) if self._node(place[:depth]) is not None)
        parent = self._node(place[: min(depth, len(place) - 1)])
        assert parent is not None
        if parent.members is None:
            raise NotReadableError(f"{'.'.join(place[:depth])} is no object")
        for name in reversed(place[depth + 1 :]):
            value = {name: value}
        text = json.dumps(value, indent=self._step() if self._has_lines(self._root) else None, ensure_ascii=False)
        self._write_source(place[: depth + 1], text.replace("\n", self.newline + self._indent(parent)))

    def _write_source(self, place: Place, source: str) -> None:
        """Set a value by its text."""
        node, parent = self._node(place), self._node(place[:-1])
        if node is not None:
            self._splice((node.start, node.end, source))
        elif parent is None or parent.members is None:
            raise NotReadableError(f"{'.'.join(place[:-1])} is no object")
        else:
            self._add(parent, f"{json.dumps(place[-1], ensure_ascii=False)}: {source}")

    def _add(self, parent: _Node, member: str) -> None:
        """Add a member behind the last one of an object, and behind the comments that follow it."""
        assert parent.members is not None
        # Behind the comments, too: one at the end of the last member's line is about that member.
        at = len(self.text[: parent.end - 1].rstrip(_BLANKS))
        before = self.newline + self._indent(parent) if self._has_lines(parent) else " " if parent.members else ""
        if not parent.members:
            is_open = "\n" in self.text[at : parent.end - 1] or not self._has_lines(parent)
            self._splice(
                (at, at, before + member + ("" if is_open else self.newline + self._line_indent(parent.start)))
            )
            return
        last = max(one.node.end for one in parent.members.values())
        if self.text[self._after(last)] == ",":  # the file has a comma behind each last member
            self._splice((at, at, f"{before}{member},"))
        else:
            self._splice((last, last, ","), (at, at, before + member))

    def _remove(self, place: Place) -> None:
        """Remove a member with the blanks before it, and the comma that separates it."""
        parent, member = self._node(place[:-1]), self._member(place)
        assert parent is not None
        assert parent.members is not None
        start = len(self.text[: member.start].rstrip(_BLANKS))
        behind = self._after(member.node.end)
        before = [one.node.end for one in parent.members.values() if one.node.end <= member.start]
        edits = [(start, member.node.end, "")]
        if self.text[behind] == ",":
            edits.append((behind, behind + 1, ""))
        elif before:
            comma = self._after(max(before))
            # The comma may be the last sign before the member, hence within reach of its blanks.
            edits = [(comma, comma + 1, ""), (max(start, comma + 1), member.node.end, "")]
        self._splice(*edits)

    def _member(self, place: Place) -> _Member:
        """Return the member at a place that is there."""
        parent = self._node(place[:-1])
        assert parent is not None
        assert parent.members is not None
        return parent.members[place[-1]]

    def _after(self, at: int) -> int:
        """Return where the next sign stands that is neither blank nor comment."""
        found = _SPACE.match(self.text, at)
        return found.end() if found else at

    def _has_lines(self, node: _Node) -> bool:
        """Return whether the members of an object get lines of their own."""
        text = self.text[node.start : node.end]
        return "\n" in text or (node.members == {} and ("\n" in self.text.strip() or node is self._root))

    def _indent(self, parent: _Node) -> str:
        """Return the blanks before a member of an object: those of its first one, else one step more than its own."""
        for member in (parent.members or {}).values():
            line = self.text[self.text.rfind("\n", 0, member.start) + 1 : member.start]
            if not line.strip(_BLANKS):
                return line
        return self._line_indent(parent.start) + self._step()

    def _line_indent(self, at: int) -> str:
        """Return the blanks that the line of a place begins with."""
        line = self.text[self.text.rfind("\n", 0, at) + 1 : at]
        return line[: len(line) - len(line.lstrip(" \t"))]

    def _step(self) -> str:
        """Return the blanks of one level, as the file has them."""
        found = re.search(r"\n([ \t]+)\S", self.text)
        return found[1] if found else "  "
