"""The timeline of a run's steps for the page: its rows with bars, links and words.

Bars are drawn on a thousand units, whatever the time: browsers draw no larger numbers than some 30 million, which
a run of ten hours has in milliseconds. A page that grows live draws them anew from the times beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from otel_agent_telemetry.clock import parse_iso
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.operations.step_facts import StepFacts
from otel_agent_telemetry.page.run_address import ONLY, RunAddress
from otel_agent_telemetry.page.step_facts import facts_of, kinds_of
from otel_agent_telemetry.page.step_tree import (
    ALL_LEVELS,
    MAX_ROWS,
    Axis,
    StepTree,
    View,
    VisibleRows,
    step_tree,
    visible_rows,
)
from otel_agent_telemetry.storage.event_rows import event_times
from otel_agent_telemetry.storage.step_rows import (
    MAX_STEPS,
    StepRow,
    count_steps,
    messages_of,
    starts_of_parents,
    step_columns,
    step_names,
    steps_numbered,
)

_KIND_OF: Final = {"models": "model", "tools": "tool"}
_MAX_MARKED: Final = 2_000
_MARKS: Final = 200
_UNITS: Final = 1_000
"""Units that the axis has in the drawings."""
_LEAST: Final = 2.0
"""Units that the shortest bar has, so that it can be seen."""
_LEVELS_OFFERED: Final = 3
_TYPES_NAMED: Final = 3
_NAMED_ABOVE: Final = 3
"""Steps around the shown ones that are named: the outermost, and as many of the nearest."""
_MAX_TYPE: Final = 60
_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(slots=True)
class BarRow:
    """A row of the timeline. `x` and `width` are of its bar; `fold` and `inside_only` are ends of addresses, or "".

    `begin_ms` is when the step began, in milliseconds since the run did. `message`: the error of a step that failed.
    `level`: how deep it stands, from 1.
    """

    step: StepRow
    facts: StepFacts
    x: str
    width: str
    begin_ms: float
    duration_ms: float | None
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
    """Where events are on the axis: `(x, milliseconds since the run began, how many and of which type)`.

    Of the first `marked` events, which may not be all.
    """

    at: Sequence[tuple[str, float, str]]
    marked: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Waterfall:
    """The timeline that a page shows. `steps` counts the run's steps, `read` those that were looked at.

    `above` are names and addresses of steps around the shown ones, `levels` the levels that can be chosen.
    """

    query: RunAddress
    rows: Sequence[BarRow]
    shown: VisibleRows
    steps: int
    read: int
    failed: int
    above: Sequence[tuple[str, str]]
    above_left_out: int
    levels: Sequence[tuple[str, str, bool]]
    marks: Marks

    @property
    def axis(self) -> Axis:
        """Return the time that the bars are drawn over."""
        return self.shown.axis

    @property
    def narrowed(self) -> dict[str, str]:
        """Return word of `ONLY` → end of the address of these steps alone, "" for all."""
        plain = replace(self.query, level=None, flipped=(), skip=0)
        return {only: replace(plain, only=only).address() for only in ("", *ONLY)}

    @property
    def whole(self) -> str:
        """Return the end of the address of the whole run."""
        return self.query.beside().address()

    @property
    def searched(self) -> dict[str, str]:
        """Return the members of the address that a search by name keeps."""
        return replace(self.query, level=None, flipped=(), skip=0, find="").members()

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
    """Return the timeline of a run. Places MAX_STEPS steps at most, and reads more of those alone that it shows."""
    event_id, origin = run.event_id, origin_ns(run.start_time, now_ns)
    steps = step_columns(connection, event_id)
    repeats = len(set(steps.span_ids)) < len(steps.span_ids)
    until_ms = (now_ns - origin) / 1e6
    tree = step_tree(
        steps,
        origin=origin,
        until_ms=until_ms if not run.ended or run.end_time is None else ms_since(origin, run.end_time, 0.0),
        starts_of_parents=starts_of_parents(connection, event_id) if repeats else None,
    )
    shown = visible_rows(tree, _view(connection, event_id, tree, query))
    above = [] if shown.top is None else [steps.numbers[position] for position in tree.above(shown.top)]
    above = above[:_NAMED_ABOVE] + above[_NAMED_ABOVE:][-_NAMED_ABOVE:]
    found = {step.id: step for step in steps_numbered(connection, event_id, above)}
    return Waterfall(
        query=query,
        rows=_bar_rows(connection, event_id, tree, shown, query, origin),
        shown=shown,
        steps=len(steps.numbers) if len(steps.numbers) < MAX_STEPS else count_steps(connection, event_id),
        read=len(steps.numbers),
        failed=sum(steps.failed),
        above=[(found[number].name, query.insides()(number)) for number in above if number in found],
        above_left_out=0 if shown.top is None else max(tree.level[shown.top] - 1 - 2 * _NAMED_ABOVE, 0),
        levels=_levels(tree, shown, query),
        marks=_marks(connection, event_id, shown.axis, origin),
    )


def origin_ns(begin: str, now_ns: int) -> int:
    """Return the nanoseconds since 1970 at which a run began, now for text that is no time."""
    try:
        return parse_iso(begin)
    except ValueError:
        return now_ns


def ms_since(origin: int, instant: str, default: float) -> float:
    """Return the milliseconds from a run's begin to a stored time, `default` for text that is none."""
    try:
        return (parse_iso(instant) - origin) / 1e6
    except ValueError:
        return default


def _view(connection: Connection, event_id: str, tree: StepTree, query: RunAddress) -> View:
    """Return which rows an address asks for."""
    numbers, find = tree.steps.numbers, query.find.casefold()
    tests: list[Callable[[int], bool]] = []
    if query.only == "errors":
        tests.append(lambda position: bool(tree.steps.failed[position]))
    elif query.only == "critical":
        tests.append(tree.critical.__contains__)
    elif query.only:
        kinds, kind = kinds_of(connection, event_id), _KIND_OF[query.only]
        tests.append(lambda position: kinds.get(numbers[position]) == kind)
    if find:
        names = step_names(connection, event_id)
        tests.append(lambda position: find in names.get(numbers[position], "").casefold())
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
    numbers = [tree.steps.numbers[row.position] for row in shown.rows]
    steps = {step.id: step for step in steps_numbered(connection, event_id, numbers)}
    bars = step_bars(connection, [steps[number] for number in numbers], axis=shown.axis, origin=origin)
    fold, inside_only = query.flips(), query.insides()
    folds = not (query.only or query.find)
    for bar, (position, level, is_open) in zip(bars, shown.rows, strict=True):
        bar.level, bar.is_open, bar.is_critical = level, is_open, position in tree.critical
        bar.inside, bar.failed_inside = tree.inside[position], tree.failed_inside[position]
        if bar.inside:
            bar.fold = fold(bar.step.id) if folds else ""
            bar.inside_only = inside_only(bar.step.id)
    return bars


def step_bars(connection: Connection, steps: Sequence[StepRow], *, axis: Axis, origin: int) -> list[BarRow]:
    """Return the bars of some steps of one run, a few hundred, on an axis; those that are open reach to its end."""
    facts = facts_of(connection, steps)
    messages = messages_of(connection, [step.id for step in steps if step.failed])
    bars = []
    for step in steps:
        begin = (step.start_ns - origin) / 1e6 if step.start_ns >= 0 else ms_since(origin, step.start_time, 0.0)
        duration_ms = exact_duration(step)
        width = axis.end_ms - begin if duration_ms is None else duration_ms
        bars.append(
            BarRow(
                step,
                facts[step.id],
                x=_on_axis(axis, begin),
                # A step of microseconds in a run of hours would be narrower than a pixel, and so invisible.
                width=f"{max(width / axis.span_ms * _UNITS, _LEAST):.2f}",
                begin_ms=begin,
                duration_ms=duration_ms,
                message=messages.get(step.id, ""),
            )
        )
    return bars


def _on_axis(axis: Axis, ms: float) -> str:
    """Return where a time is in the drawings."""
    return f"{(ms - axis.begin_ms) / axis.span_ms * _UNITS:.2f}"


def exact_duration(step: StepRow) -> float | None:
    """Return how long a step took, in milliseconds with their fractions; None for one that has not ended."""
    if step.end_time is None:
        return None
    try:
        lasts = datetime.fromisoformat(step.end_time) - datetime.fromisoformat(step.start_time)
    except ValueError:
        return float(step.duration_ms)
    return max(lasts / _MILLISECOND, 0.0)


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
            # So many places at most, whatever the number of events: a mark for each would take longer to draw than to
            # read.
            types = places.setdefault(round(part * _MARKS), {})
            types[event_type] = types.get(event_type, 0) + 1
    begins = {place: axis.begin_ms + place / _MARKS * axis.span_ms for place in sorted(places)}
    at = [(_on_axis(axis, begin), begin, _words(places[place])) for place, begin in begins.items()]
    return Marks(at, min(len(times), _MAX_MARKED), len(times) <= _MAX_MARKED)


def _words(types: Mapping[str, int]) -> str:
    """Return how many events of which types, for a mark: the most frequent of them."""
    frequent = sorted(types.items(), key=lambda one: -one[1])
    words = [f"{count} × {kind[:_MAX_TYPE]}" if count > 1 else kind[:_MAX_TYPE] for kind, count in frequent]  # noqa: RUF001
    return ", ".join([*words[:_TYPES_NAMED], *(["…"] if len(words) > _TYPES_NAMED else [])])
