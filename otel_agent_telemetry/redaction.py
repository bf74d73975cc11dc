"""What may leave the application: secrets masked, size bounded.

`clean` walks a payload once, before it is encoded. A value under a key that names a secret,
or a text that contains one by its form (bearer tokens, URL credentials, well-known key
prefixes), becomes `***REDACTED***`. Past the byte budget texts are cut and containers
closed, so the cost on the caller's thread does not grow with the payload, nor with a cycle.
"""

from __future__ import annotations

from array import array
from collections import UserList, deque
from collections.abc import Collection, ItemsView, Iterable, KeysView, Mapping, ValuesView
from dataclasses import fields, is_dataclass
from datetime import date, time
from enum import Enum
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, Final
from uuid import UUID

from otel_agent_telemetry.column_checks import FREE_TEXT_COLUMNS
from otel_agent_telemetry.columns import JSON_COLUMNS, Fields
from otel_agent_telemetry.run_id import MAX_RUN_ID_LENGTH
from otel_agent_telemetry.secret_arguments import secret_positions
from otel_agent_telemetry.secret_names import REDACTED, hides_secret, is_secret_key
from otel_agent_telemetry.secret_patterns import is_harmless, mask_text, may_hide
from otel_agent_telemetry.wire import bounded_repr

DEFAULT_MAX_BYTES: Final = 1_048_576
_MAX_DEPTH: Final = 64
# A payload with larger or more containers takes the full walk at once: the cheap pass would cost as much again.
_SHORT: Final = 64
_SCALARS: Final = (date, time, UUID, Enum)
_SEQUENCES: Final = (list, tuple, set, frozenset, deque, UserList, array, range, KeysView, ValuesView, ItemsView)
"""What is looked at item by item, so that its size does not matter."""
_MAX_KEY: Final = 256
_FEW: Final = 32
_MUCH: Final = 256
# Longer lists are data, no command lines.
_MAX_ARGUMENTS: Final = 4_096
NAME_MEMBERS: Final = frozenset({"name", "key", "header", "field", "Name", "Key", "k", "n"})
VALUE_MEMBERS: Final = frozenset({"value", "Value", "val", "v"})
"""Members of an object that is a name and its value: `{"name": "Cookie", "value": "…"}`."""
_HEADERS: Final = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})


@lru_cache(maxsize=4096)
def _masked_name(name: str) -> str:
    """Return a name with the secrets in it masked; the result is remembered."""
    return mask_text(name)


def kept_name(name: str) -> str:
    """Return a key, or the name of an event or a step, with a secret in it masked. Short ones are remembered."""
    masked = _masked_name(name) if len(name) <= _MAX_KEY else mask_text(name)
    return name if masked == name else masked


def kept_run_id(run_id: str) -> str:
    """Return a run id that an application gave with a secret in it masked: the same wherever something refers to it.

    What is no text, which the checks of run ids refuse, is returned as it is.
    """
    masked = mask_text(run_id) if isinstance(run_id, str) else run_id
    return run_id if masked == run_id else masked[:MAX_RUN_ID_LENGTH]


@lru_cache(maxsize=4096)
def _is_plain_name(name: str) -> bool:
    """Return whether a name neither names nor holds a secret; the result is remembered."""
    return not is_secret_key(name) and mask_text(name) is name


def is_plain_name(name: str) -> bool:
    """Return whether a key, of 256 characters at most, neither names a secret nor holds one."""
    return len(name) <= _MAX_KEY and _is_plain_name(name)


def are_plain_names(names: Collection[str]) -> bool:
    """Return whether no key of a payload is, or holds, the name of a secret; nor a member that another one may name."""
    is_named = not NAME_MEMBERS.isdisjoint(names) and not VALUE_MEMBERS.isdisjoint(names)
    return not is_named and all(map(is_plain_name, names))


_TEXT_COLUMNS: Final = FREE_TEXT_COLUMNS - JSON_COLUMNS | {"run_id", "parent_run_id"}


_MASK_OF: Final = dict.fromkeys(("run_id", "parent_run_id"), kept_run_id)


def mask_columns(columns: Fields) -> Fields:
    """Mask the secrets in a run's text columns, in place, and return them; JSON columns are masked where they are made.

    A run id too: `kept_run_id` gives what refers to the run the same one.
    """
    # One look at all texts together: hardly any run has a secret in its columns.
    texts = {name: text for name, text in columns.items() if name in _TEXT_COLUMNS and isinstance(text, str)}
    if not is_harmless("\n".join(texts.values())):
        columns.update({name: _MASK_OF.get(name, mask_text)(text) for name, text in texts.items()})
    return columns


def clean(
    value: Any, *, max_bytes: int = DEFAULT_MAX_BYTES, secret_keys: Iterable[str] = (), max_depth: int = _MAX_DEPTH
) -> Any:
    """Return the value as it may be stored; the same object when nothing had to change.

    `max_bytes` bounds the text in it (default 1 MiB); what is over ends in a remark of how
    much is missing. Below `max_depth` levels (64) nothing is kept. `secret_keys` are masked
    besides those that look like secrets. Dataclasses become mappings, objects that JSON does
    not know a masked, bounded `repr`, so that neither carries a secret past this point. Costs
    time in proportion to what is kept. Raises only what the value's own methods raise.
    """
    if not secret_keys and _is_small_and_plain(value, max_bytes):
        return value
    return _Walk(max_bytes, frozenset(key.lower() for key in secret_keys), max_depth).clean(value, 0)


def clean_members(
    value: Mapping[str, Any], *, max_bytes: int = DEFAULT_MAX_BYTES, secret_keys: Iterable[str] = ()
) -> Any:
    """Return `clean` of a mapping, member by member: each has a fair share of the bytes, and its own trouble.

    A member that is large, or that cannot be read (it changes meanwhile, its methods raise),
    spares the others. What a small one leaves of its share is the later ones'.
    """
    if len(value) > _SHORT or (not secret_keys and _is_small_and_plain(value, max_bytes)):
        return clean(value, max_bytes=max_bytes, secret_keys=secret_keys)
    named = frozenset(key.lower() for key in secret_keys)
    kept: dict[str, Any] = {}
    left, members = max_bytes, len(value)
    for name, item in value.items():
        # A new share at each step, so that what small members leave is not lost to the ones after them.
        walk = _Walk(share := left // members, named)
        try:
            kept.update(walk.clean({name: item}, 0))
        # Broad on purpose: the value is the application's, and its methods may raise anything.
        except Exception as failure:
            kept[name] = f"<{type(item).__name__} whose items raise {type(failure).__name__}>"
        left -= share - max(walk.left, 0)
        members -= 1
    return kept


def _is_small_and_plain(value: Any, max_bytes: int) -> bool:
    """Return whether it is the common case, in one cheap pass: a few dicts and lists of numbers and harmless texts."""
    if type(value) is not dict:
        return value is None
    texts: list[str] = []
    containers: list[Any] = [value]
    for container in containers:  # grows while it is gone through
        is_plain = _gather_members if type(container) is dict else _gather_items
        if len(container) > _SHORT or len(containers) > _FEW or not is_plain(container, texts, containers):
            return False
    joined = "\n".join(texts)
    if len(joined) > max_bytes or (len(joined) > _MUCH and may_hide(joined)):
        return False  # of much text with a sign only the walk looks at each, not both
    return not texts or is_harmless(joined)


def _gather_members(members: dict[Any, Any], texts: list[str], containers: list[Any]) -> bool:
    """Add the texts and containers of a dict; return whether its names and the other values are plain."""
    if not VALUE_MEMBERS.isdisjoint(members):
        return False
    for name, value in members.items():
        if type(name) is not str or not is_plain_name(name):
            return False
        kind = type(value)
        if kind is str:
            texts.append(value)
        elif kind is dict or kind is list:
            containers.append(value)
        elif not (kind is int or kind is float or kind is bool or value is None):
            return False
    return True


def _gather_items(items: list[Any], texts: list[str], containers: list[Any]) -> bool:
    """Add the texts and containers of a list; return whether the others are plain, and no text may name the next."""
    for item in items:
        kind = type(item)
        if kind is str:
            if item[:1] == "-" or is_secret_key(item):
                return False
            texts.append(item)
        elif kind is dict or kind is list:
            containers.append(item)
        elif not (kind is int or kind is float or kind is bool or item is None):
            return False
    return True


class _Walk:
    """One pass over one payload: the budget left, and the keys to mask."""

    __slots__ = ("left", "max_depth", "named")

    def __init__(self, max_bytes: int, named: frozenset[str], max_depth: int = _MAX_DEPTH) -> None:
        self.left = max_bytes
        self.max_depth = max_depth
        self.named = named

    def clean(self, value: Any, depth: int) -> Any:
        """Return a value as it may be stored, and take its size off the budget."""
        if isinstance(value, str):
            return self._text(value)
        # So that a list of a billion numbers, or a cycle, comes to an end as well.
        self.left -= 8
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, (bytes, bytearray, memoryview)):
            # Cut before it is decoded: bytes of a gigabyte must not become a text of one.
            return self._text(bytes(value[: max(self.left, 0)]).decode("utf-8", "backslashreplace"))
        if isinstance(value, _SCALARS):
            return value
        return self._container(value, depth) if depth < self.max_depth else "<too deep>"

    def _container(self, value: Any, depth: int) -> Any:
        """Return a container with each item cleaned, as far as the budget goes."""
        if isinstance(value, Mapping):
            return self._mapping(value, depth)
        # A named tuple's fields may name secrets, which a list of its values would not show.
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return self._mapping(dict(zip(value._fields, value, strict=False)), depth)
        if isinstance(value, _SEQUENCES):
            return self._items(value, depth)
        return self._foreign(value, depth)

    def _foreign(self, value: Any, depth: int) -> Any:
        """Return an object that is no text, number or container: its members where it has some, else its `repr`."""
        if is_dataclass(value) and not isinstance(value, type):
            shown = {item.name: getattr(value, item.name, None) if item.repr else REDACTED for item in fields(value)}
            return self.clean(shown, depth)
        if isinstance(value, SimpleNamespace):
            return self.clean(vars(value), depth)
        if isinstance(value, BaseException):
            return self.clean({type(value).__name__: value.args}, depth)
        return self._text(bounded_repr(value))

    def _text(self, text: str) -> str:
        """Return a text masked, and cut to what is left of the budget with a remark of how much is missing."""
        room = max(self.left, 0)
        self.left -= len(text) or 1
        if len(text) > room:
            return mask_text(text[:room]) + f"… [{len(text) - room} more characters]"
        return mask_text(text)

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> Any:
        """Return a mapping without secrets: the same object where nothing had to change."""
        kept: dict[Any, Any] = {}
        same = type(value) is dict
        hidden = self._hidden_members(value)
        for key, item in value.items():
            if self.left <= 0:
                kept["…"] = f"{len(value) - len(kept)} more members"
                return kept
            name = kept_name(key) if type(key) is str else key
            if self._hides(key, item) or key in hidden:
                kept[name] = REDACTED
            else:
                kept[name] = self.clean(item, depth + 1)
            same = same and kept[name] is item and name is key
        return value if same else kept

    def _hidden_members(self, value: Mapping[Any, Any]) -> frozenset[str]:
        """Return the members that hold the secret which another member names."""
        if type(value) is not dict or VALUE_MEMBERS.isdisjoint(value):
            return frozenset()
        named = any(self._hides(value[name], "x") for name in NAME_MEMBERS if type(value.get(name)) is str)
        return VALUE_MEMBERS if named else frozenset()

    def _hides(self, key: Any, value: Any) -> bool:
        """Return whether the value under a name, which may be text, bytes or an Enum's, is to be masked."""
        name = key.name if isinstance(key, Enum) else key
        if isinstance(name, bytes):
            name = name[:_MAX_KEY].decode("latin-1")
        if not isinstance(name, str):
            return False
        self.left -= len(name)
        return hides_secret(name, value) or (bool(self.named) and name.lower() in self.named)

    def _items(self, value: Any, depth: int) -> Any:
        """Return a list without secrets: a command line or a list of headers is looked at as a whole."""
        kept: list[Any] = []
        same = type(value) in (list, tuple)
        if type(value) is tuple and self._is_secret_pair(value):
            return [self.clean(value[0], depth + 1), REDACTED]
        hidden = _hidden_items(value) if same and len(value) > 1 and len(value) <= _MAX_ARGUMENTS else {}
        for at, item in enumerate(value):
            if self.left <= 0:
                kept.append(f"… {len(value) - len(kept)} more items")
                return kept
            if hidden.get(at, item) != item:
                kept.append(hidden[at])
            elif self._is_secret_pair(item):
                kept.append(item if item[1] is REDACTED else [self.clean(item[0], depth + 2), REDACTED])
            else:
                kept.append(self.clean(item, depth + 1))
            same = same and kept[-1] is item
        return value if same else kept

    def _is_secret_pair(self, item: Any) -> bool:
        """Return whether an item is the name of a secret and the secret, as in a list of HTTP headers."""
        pair = type(item) in (list, tuple) and len(item) == 2  # noqa: PLR2004 - a pair
        return pair and isinstance(item[0], (str, bytes)) and self._hides(item[0], item[1])


def _hidden_items(items: Any) -> dict[int, str]:
    """Return position → replacement in a list that is a command, or names and values of headers by turns."""
    if type(items[0]) is not str and type(items[0]) is not bytes:
        return {}
    return secret_positions(items) or _values_of_headers(items)


def _values_of_headers(items: Any) -> dict[int, str]:
    """Return position → mask of secret headers' values in a flat list: `["Host", "h", "Cookie", "a=b"]`."""
    if len(items) % 2:
        return {}
    found: dict[int, str] = {}
    for at in range(0, len(items), 2):
        name, value = _plain(items[at]), _plain(items[at + 1])
        if name is None or value is None:
            return {}
        # A list of names alone, `["Cookie", "Set-Cookie"]`, is no list of headers.
        is_header = (name.lower() in _HEADERS or "-" in name) and is_secret_key(name)
        if is_header and value != REDACTED and not is_secret_key(value):
            found[at + 1] = REDACTED
    return found


def _plain(item: Any) -> str | None:
    """Return an item of a list as text, the beginning of bytes; None for anything else."""
    if type(item) is bytes:
        return item[:_MAX_KEY].decode("latin-1")
    return item if type(item) is str else None
