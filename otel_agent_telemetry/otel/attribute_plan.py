"""What a tuple of attribute names means, worked out once and kept.

An application uses few sets of names again and again. For each a plan says which names give
which column, which are left over for `context_json`, and whether a fast way exists at all:
`mapping.run_columns` is the rule, and a plan is that rule for names with plain values. What
a plan does not cover (secret names, JSON columns, names of frameworks whose values decide)
goes the long way. A property test compares the two.

Values are plain when each is a `str`, `int`, `float` or `bool` and no text shows a sign of a
secret (`secret_patterns.is_harmless`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any, Final

from otel_agent_telemetry.columns import (
    COUNT_COLUMNS,
    FREE_TEXT_COLUMNS,
    JSON_COLUMNS,
    MAX_COUNT,
    SETTABLE_COLUMNS,
    Fields,
)
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.mapping import left_over_names
from otel_agent_telemetry.otel.usage import COST_NAMES, TOKEN_NAMES, USAGE_NAMES
from otel_agent_telemetry.redaction import is_secret_key
from otel_agent_telemetry.secret_patterns import is_harmless

_MAX_PLANS: Final = 256
_MAX_NAMES: Final = 2_048
_MAX_NAME: Final = 256
PLAIN_COLUMNS: Final = (FREE_TEXT_COLUMNS | COUNT_COLUMNS) - JSON_COLUMNS
"""Columns that take any text, or any count, as it is."""
_OBSERVED: Final = frozenset({"duration_ms"})
"""Settable columns that the end of a span decides."""


class AttributePlan:
    """What some attribute names give. `fast` is False where only the long way is right.

    `columns`: (name, column, whether it is a count) for `agent.run.*`. `conventional`: (name,
    column) of semantic conventions. `left_over`: names kept in `context_json`. `kept`: names
    kept on a step or in an event. `may_be_agent`, `counts`, `reports_use`: whether the values
    must be looked at for an agent's invocation, for use (model calls, tool calls), for what the whole used.
    """

    __slots__ = (
        "columns",
        "conventional",
        "counts",
        "fast",
        "fast_payload",
        "kept",
        "left_over",
        "may_be_agent",
        *("reports_use", "_pick"),
    )

    def __init__(self, keys: tuple[str, ...], *, capture_content: bool) -> None:
        self.fast_payload = _are_plain_names(keys)
        keys = tuple(key for key in keys if type(key) is str)  # an application may give whatever a dict takes
        self.fast = self.fast_payload and not names.VALUES_DECIDE.intersection(keys)
        self.columns: list[tuple[str, str, bool]] = []
        given = [(key, column) for key, column in names.CONVENTIONAL_COLUMNS.items() if key in keys]
        self.conventional = given[::-1]  # of two that give one column the first counts: it is written last
        self.left_over = left_over_names(keys, capture_content=capture_content)
        self._pick = itemgetter(*self.left_over) if len(self.left_over) > 1 else None
        self.kept = tuple(key for key in keys if capture_content or not names.is_content(key))
        marked = [key for key in keys if key.startswith(names.PREFIX)]
        self.may_be_agent = bool(marked) or not names.AGENT_KINDS.isdisjoint(keys)
        self.counts = not USAGE_NAMES.isdisjoint(keys)
        self.reports_use = not (TOKEN_NAMES | COST_NAMES).isdisjoint(keys)
        if self.fast:
            self._take_marked(marked)

    def _take_marked(self, marked: Iterable[str]) -> None:
        for key in marked:
            column = key[len(names.PREFIX) :]
            if key in (names.RUN_ID, names.STATUS) or column in _OBSERVED:
                continue
            if column not in SETTABLE_COLUMNS or column not in PLAIN_COLUMNS:
                self.fast = False  # unknown, or a column with a check of its own
                return
            self.columns.append((key, column, column in COUNT_COLUMNS))

    def left_over_of(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Return the attributes that are kept in `context_json`."""
        if self._pick is None:
            return {key: attributes[key] for key in self.left_over}
        return dict(zip(self.left_over, self._pick(attributes), strict=True))

    def fill(self, columns: Fields, attributes: Mapping[str, Any]) -> bool:
        """Add what the attributes give to `columns`, which hold the defaults; False for the long way.

        `attributes` are plain and have the names of this plan.
        """
        given: Fields = {}
        for key, column, is_count in self.columns:
            value = attributes[key]
            if is_count:
                if type(value) is not int or not 0 <= value <= MAX_COUNT:
                    return False
            elif type(value) is not str:
                return False
            elif not value:
                continue
            given[column] = value
        for key, column in self.conventional:
            value = attributes[key]
            if type(value) is str and value and not value.startswith(names.DEFAULT_SERVICE):
                if "@" in value:  # a repository's address may hold a password
                    return False
                columns[column] = value
        columns.update(given)
        return True


def _are_plain_names(keys: tuple[str, ...]) -> bool:
    return len(keys) <= _MAX_NAMES and all(
        type(key) is str and 0 < len(key) <= _MAX_NAME and not is_secret_key(key) for key in keys
    )


class AttributePlans:
    """The plans of one configuration, by names in their order. Safe under threads: entries are only added."""

    __slots__ = ("_capture_content", "_plans")

    def __init__(self, *, capture_content: bool) -> None:
        self._capture_content = capture_content
        self._plans: dict[tuple[str, ...], AttributePlan] = {}

    def of(self, attributes: Mapping[str, Any]) -> AttributePlan:
        """Return the plan for the names of these attributes."""
        keys = tuple(attributes)
        plan = self._plans.get(keys)
        if plan is None:
            if len(self._plans) >= _MAX_PLANS:  # an application that makes names up must not fill the memory
                self._plans.clear()
            plan = self._plans[keys] = AttributePlan(keys, capture_content=self._capture_content)
        return plan


def are_plain(attributes: Mapping[str, Any]) -> bool:
    """Return whether all values are plain and none shows a sign of a secret."""
    texts = []
    for value in attributes.values():
        kind = type(value)
        if kind is str:
            texts.append(value)
        elif not (kind is int or kind is float or kind is bool):
            return False
    return not texts or is_harmless(texts)
