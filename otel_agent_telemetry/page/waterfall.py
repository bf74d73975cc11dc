"""The timeline of a run's steps for the page: its rows with bars, links and words.

Bars are in milliseconds since the run began, so that a page which grows live changes the view
of its drawings and not the bars.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Connection

from otel_agent_telemetry.clock import parse_iso
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.page.run_address import ONLY, RunAddress
from otel_agent_telemetry.page.step_facts import StepFacts, facts_of
from otel_agent_telemetry.page.step_tree import (
    ALL_LEVELS,
    MAX_ROWS,
    Axis,
    StepTree,
    View,
    VisibleRow,
    VisibleRows,
    begin_ms,
    has_failed,
    ms_since,
    origin_ns,
    step_tree,
    visible_rows,
)
from otel_agent_telemetry.storage.event_rows import event_times
from otel_agent_telemetry.storage.step_rows import MAX_STEPS, StepRow, count_steps, messages_of, step_rows

_KIND_OF: Final = {"models": "model", "tools": "tool"}
_MAX_MARKED: Final = 2_000
_MARKS: Final = 200
_LEAST_PART: Final = 0.002
"""The part of the axis that the shortest bar has, so that it can be seen."""
_LEVELS_OFFERED: Final = 3
_TYPES_NAMED: Final = 3
_MAX_TYPE: Final = 60


@dataclass(frozen=True, slots=True)
class BarRow:
    """A row of the timeline. `x` and `width` are of its bar; `fold` and `inside_only` are ends of addresses, or ""."""

    step: StepRow
    facts: StepFacts
    x: str
    width: str
    duration_ms: float | None
    failed: bool
    message: str
    level: int = 1
    is_open: bool = False
    inside: int = 0
    failed_inside: int = 0
    is_critical: bool = False
    fold: str = ""
    inside_only: str = ""


@dataclass(frozen=True, slots=True)
class Marks:
    """Where events are on the axis: `(x, how many and of which type)`; of the first `marked` events, maybe not all."""

    at: Sequence[tuple[str, str]]
    marked: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Waterfall:
    """The timeline that a page shows. `steps` counts the run's steps, `read` those that were looked at."""

    query: RunAddress
    rows: Sequence[BarRow]
    shown: VisibleRows
    steps: int
    read: int
    failed: int
    above: Sequence[StepRow]
    levels: Sequence[tuple[str, str, bool]]
    marks: Marks

    @property
    def axis(self) -> Axis:
        """Return the time that the bars are drawn over."""
        return self.shown.axis

    @property
    def view(self) -> str:
        """Return the part of the drawings that is seen: the axis, in milliseconds since the run began."""
        return f"{self.axis.begin_ms:.3f} 0 {self.axis.span_ms:.3f} 12"

    @property
    def narrowed(self) -> dict[str, str]:
        """Return word of `ONLY` → end of the address of these steps alone, "" for all."""
        plain = replace(self.query, level=None, flipped=(), skip=0)
        return {only: replace(plain, only=only).address() for only in ("", *ONLY)}

    @property
    def pages(self) -> list[tuple[int, str]]:
        """Return number of the first row and end of the address of each page; none where one holds all."""
        starts = range(0, self.shown.total, MAX_ROWS) if self.shown.total > MAX_ROWS else ()
        return [(skip + 1, replace(self.query, skip=skip).address()) for skip in starts]

    @property
    def next_page(self) -> str:
        """Return the end of the address of the rows that follow, "" for none."""
        following = self.shown.skip + len(self.rows)
        return replace(self.query, skip=following).address() if following < self.shown.total else ""

    @property
    def grows(self) -> bool:
        """Return whether a step that is new can be added to these rows: all of the run is shown."""
        return not (self.query.only or self.query.find or self.query.top) and self.shown.total <= len(self.rows)


def read_waterfall(connection: Connection, run: RunRecord, query: RunAddress, *, now_ns: int) -> Waterfall:
    """Return the timeline of a run. Reads MAX_STEPS steps at most, and attributes only of the rows that it shows."""
    rows = step_rows(connection, run.event_id)
    tree = step_tree(rows, begin=run.start_time, end=run.end_time if run.ended else None, now_ns=now_ns)
    shown = visible_rows(tree, _view(connection, run.event_id, tree, query))
    origin = origin_ns(run.start_time, now_ns)
    return Waterfall(
        query=query,
        rows=_bar_rows(connection, run.event_id, tree, shown, query, origin),
        shown=shown,
        steps=len(rows) if len(rows) < MAX_STEPS else count_steps(connection, run.event_id),
        read=len(rows),
        failed=sum(map(has_failed, rows)),
        above=[] if shown.top is None else [rows[position] for position in tree.above(shown.top)],
        levels=_levels(tree, shown, query),
        marks=_marks(connection, run.event_id, shown.axis, origin),
    )


def _view(connection: Connection, event_id: str, tree: StepTree, query: RunAddress) -> View:
    """Return which rows an address asks for."""
    rows, find = tree.rows, query.find.casefold()
    tests: list[Callable[[int], bool]] = []
    if query.only == "errors":
        tests.append(lambda position: has_failed(rows[position]))
    elif query.only == "critical":
        tests.append(tree.critical.__contains__)
    elif query.only:
        facts, kind = facts_of(connection, event_id, rows, numbers=None), _KIND_OF[query.only]
        tests.append(lambda position: facts[rows[position].id].kind == kind)
    if find:
        tests.append(lambda position: find in rows[position].name.casefold())
    matches = (lambda position: all(test(position) for test in tests)) if tests else None
    return View(query.top, query.level, frozenset(query.flipped), query.skip, matches)


def _bar_rows(
    connection: Connection,
    event_id: str,
    tree: StepTree,
    shown: VisibleRows,
    query: RunAddress,
    origin: int,
) -> list[BarRow]:
    """Return the rows that are shown, with their facts, bars and links."""
    steps = [tree.rows[row.position] for row in shown.rows]
    bars = step_bars(connection, event_id, steps, axis=shown.axis, origin=origin)
    return [_placed(bar, tree, row, query) for bar, row in zip(bars, shown.rows, strict=True)]


def _placed(bar: BarRow, tree: StepTree, row: VisibleRow, query: RunAddress) -> BarRow:
    """Return a bar as a row in its place in the tree."""
    position, number = row.position, bar.step.id
    has_inside = bool(tree.inside[position])
    inside = RunAddress(top=number, event_type=query.event_type, after=query.after)
    return replace(
        bar,
        level=row.level,
        is_open=row.is_open,
        inside=tree.inside[position],
        failed_inside=tree.failed_inside[position],
        is_critical=position in tree.critical,
        fold=query.flip(number).address() if has_inside and not (query.only or query.find) else "",
        inside_only=inside.address() if has_inside else "",
    )


def step_bars(
    connection: Connection, event_id: str, steps: Sequence[StepRow], *, axis: Axis, origin: int
) -> list[BarRow]:
    """Return the bars of some steps of a run, a few hundred, on an axis; those that are open reach to its end."""
    numbers = [step.id for step in steps]
    facts = facts_of(connection, event_id, steps, numbers=numbers)
    messages = messages_of(connection, event_id, [step.id for step in steps if has_failed(step)])
    bars = []
    for step in steps:
        begin = begin_ms(step, origin)
        duration_ms = exact_duration(step)
        width = axis.end_ms - begin if duration_ms is None else duration_ms
        bars.append(
            BarRow(
                step,
                facts[step.id],
                x=f"{begin:.3f}",
                width=f"{max(width, axis.span_ms * _LEAST_PART):.3f}",
                duration_ms=duration_ms,
                failed=has_failed(step),
                message=messages.get(step.id, ""),
            )
        )
    return bars


def exact_duration(step: StepRow) -> float | None:
    """Return how long a step took, in milliseconds with their fractions; None for one that has not ended."""
    if step.end_time is None:
        return None
    try:
        return max((parse_iso(step.end_time) - parse_iso(step.start_time)) / 1e6, 0.0)
    except ValueError:
        return float(step.duration_ms)


def _levels(tree: StepTree, shown: VisibleRows, query: RunAddress) -> list[tuple[str, str, bool]]:
    """Return word and address of each number of levels that can be chosen, and whether it is shown now."""
    deepest = max(tree.level, default=1)
    if deepest == 1 or shown.level == 0:
        return []
    offered = sorted({*range(1, min(deepest, _LEVELS_OFFERED) + 1), min(shown.level, deepest)} - {deepest})
    plain = replace(query, flipped=(), skip=0)
    found = [(str(level), replace(plain, level=level).address(), level == shown.level) for level in offered]
    return [*found, (f"all {deepest}", replace(plain, level=ALL_LEVELS).address(), shown.level >= deepest)]


def _marks(connection: Connection, event_id: str, axis: Axis, origin: int) -> Marks:
    """Return where the run's events are on an axis: those that fall on one place are one mark."""
    times = event_times(connection, event_id, limit=_MAX_MARKED + 1)
    places: dict[int, dict[str, int]] = {}
    for timestamp, event_type in times[:_MAX_MARKED]:
        part = (ms_since(origin, timestamp, -1.0) - axis.begin_ms) / axis.span_ms
        if 0 <= part <= 1:
            types = places.setdefault(round(part * _MARKS), {})
            types[event_type] = types.get(event_type, 0) + 1
    width_ms = axis.span_ms / _MARKS
    at = [(f"{axis.begin_ms + place * width_ms:.3f}", _words(types)) for place, types in sorted(places.items())]
    return Marks(at, min(len(times), _MAX_MARKED), len(times) <= _MAX_MARKED)


def _words(types: Mapping[str, int]) -> str:
    """Return how many events of which types, for a mark: the most frequent of them."""
    frequent = sorted(types.items(), key=lambda one: -one[1])
    words = [f"{count} × {kind[:_MAX_TYPE]}" if count > 1 else kind[:_MAX_TYPE] for kind, count in frequent]  # noqa: RUF001
    return ", ".join([*words[:_TYPES_NAMED], *(["…"] if len(words) > _TYPES_NAMED else [])])
