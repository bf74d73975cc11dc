"""A JSON value as a bounded tree for a page: members that open, texts that are cut visibly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

MAX_NODES: Final = 500
"""Values of one tree that are shown; each level says how many more there are."""
MAX_LEVELS: Final = 12
"""Levels that open; what is deeper is shown as JSON text."""
MAX_TEXT: Final = 1_000
"""Characters of a text that are shown."""


@dataclass(slots=True)
class CutText:
    """The beginning of a text, and how many more characters it has."""

    text: str
    more: int

    @classmethod
    def of(cls, text: str, limit: int = MAX_TEXT) -> CutText:
        """Return a text cut to `limit` characters."""
        return cls(text[:limit], max(len(text) - limit, 0))


@dataclass(slots=True)
class Node:
    """A value under its name: a text, or an object or array with `size` members, of which `left_out` are not shown."""

    name: str
    value: CutText | None = None
    size: int = 0
    members: list[Node] = field(default_factory=list)

    @property
    def left_out(self) -> int:
        """Return how many members are not shown."""
        return self.size - len(self.members)


def value_tree(value: Any) -> list[Node]:
    """Return the members of an object or array as trees; of another value a single one."""
    top = Node("")
    _fill(top, value, level=0, room=[MAX_NODES])
    return top.members if top.value is None else [top]


def _fill(node: Node, value: Any, *, level: int, room: list[int]) -> None:
    """Set what a node shows; `room` holds how many more nodes the tree may have."""
    if not isinstance(value, (dict, list)) or not value:
        node.value = CutText.of(shown(value))
    elif level == MAX_LEVELS:
        node.value = CutText.of(json_text(value))
    else:
        node.size = len(value)
        for name, member in _members(value):
            if room[0] <= 0:
                return
            room[0] -= 1
            inner = Node(name[:MAX_TEXT])
            node.members.append(inner)
            _fill(inner, member, level=level + 1, room=room)


def _members(value: dict[str, Any] | list[Any]) -> Iterator[tuple[str, Any]]:
    """Yield name and value of each member."""
    return iter(value.items()) if isinstance(value, dict) else ((str(at), one) for at, one in enumerate(value))


def shown(value: Any) -> str:
    """Return a value as text: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json_text(value)


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Return a value as JSON with the characters as they are."""
    return json.dumps(value, ensure_ascii=False, indent=indent, default=str)
