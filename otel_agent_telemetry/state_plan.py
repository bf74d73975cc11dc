"""Which values of a run's columns are right as they are, and checking those of a whole state at once.

A state that a recorder wrote is right in every column, so delivery looks for the opposite as
cheaply as it can: for each tuple of names a `StatePlan` is worked out once, which joins the
texts and matches them with one pattern. It gives no verdict on a value that it does not know
to be right; `run_state.checked_state` looks at those one by one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, Final

from otel_agent_telemetry.column_checks import FREE_TEXT_COLUMNS
from otel_agent_telemetry.columns import COLUMNS, COUNT_COLUMNS, REQUIRED_COLUMNS, TIME_COLUMNS, Fields
from otel_agent_telemetry.status import STATUSES
from otel_agent_telemetry.wire import SPAN_WORK, SPAN_WORKS

NUMBERS: Final = COUNT_COLUMNS | {"schema_version", "api_posted"}
"""The columns that hold integers; nearly all others hold text or nothing."""
PLAIN_NUMBERS_END: Final = 1 << 31
"""An integer from 0 to below this is right in every column of NUMBERS."""
ALWAYS: Final = frozenset({*REQUIRED_COLUMNS, "schema_version", "status"})
"""The columns that every checked state has."""
_DATE: Final = (
    r"[12]\d{3}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
)
FORMS: Final = {
    **dict.fromkeys(TIME_COLUMNS, _DATE + r"T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{6}\+00:00"),
    **dict.fromkeys(("run_id", "parent_run_id"), r"[\w.:+@=-]{1,255}"),
    "event_id": r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "trace_id": r"[0-9a-f]{32}",
    "span_id": r"[0-9a-f]{16}",
    "status": "|".join(STATUSES),
    SPAN_WORK: "|".join(SPAN_WORKS),
}
"""Column → the form of a text that is surely right in it. None of them takes a line's end."""
AS_STORED: Final[dict[str, Callable[[str], object]]] = {
    **dict.fromkeys(FREE_TEXT_COLUMNS, str.__len__),
    **{name: re.compile(form, re.ASCII).fullmatch for name, form in FORMS.items()},
}
"""Text column → whether a text is surely right and stored as it is; any other is for `check_column` to judge.

`span_work` is no column, but a member of states that the database needs beside them.
"""
_KEPT: Final = frozenset((*COLUMNS, SPAN_WORK))
_MAX_PLANS: Final = 256
_MAX_NAMES: Final = 2 * len(COLUMNS)


class StatePlan:
    """What there is to look at in mappings with the same names; worked out once for each tuple of names."""

    __slots__ = ("_is_right", "_numbers", "_others", "_pick_texts")

    def __init__(self, names: tuple[str, ...]) -> None:
        columns = [name for name in names if name in _KEPT]
        formed = [name for name in columns if name in FORMS]
        free = [name for name in columns if name in FREE_TEXT_COLUMNS]
        self._numbers = tuple(name for name in columns if name in NUMBERS)
        self._others = tuple(name for name in names if name not in _KEPT)
        covered = len(formed) + len(free) + len(self._numbers) == len(columns)
        self._is_right = _matching(formed) if covered and ALWAYS.issubset(columns) else None
        if self._is_right is not None:
            self._pick_texts: Callable[[Mapping[str, Any]], tuple[Any, ...]] = itemgetter(*formed, *free)

    def state_of(self, values: Mapping[str, Any]) -> Fields | None:
        """Return the columns of a mapping with the names of this plan; None unless all are surely right."""
        if self._is_right is None:
            return None
        texts = self._pick_texts(values)
        try:
            if "" in texts or not self._is_right("\n".join(texts)):
                return None
        except TypeError:  # not a text
            return None
        for name in self._numbers:
            number = values[name]
            if type(number) is not int or not 0 <= number < PLAIN_NUMBERS_END:
                return None
        state = dict(values)  # a copy and a few deletions cost a fifth of building a dict from its items
        for name in self._others:
            del state[name]
        return state


def _matching(columns: list[str]) -> Callable[[str], object]:
    """Return what matches the texts of these columns, in lines, and the end of the last: free texts follow."""
    return re.compile("".join(f"(?:{FORMS[name]})\n" for name in columns), re.ASCII).match


class StatePlans(dict[tuple[str, ...], StatePlan]):
    """Names in their order → their plan, made when it is asked for. Safe under threads: entries are only added."""

    __slots__ = ()

    def __missing__(self, names: tuple[str, ...]) -> StatePlan:
        plan = StatePlan(names)
        if len(names) > _MAX_NAMES:  # of no line of ours: not kept
            return plan
        if len(self) >= _MAX_PLANS:
            self.clear()
        self[names] = plan
        return plan
