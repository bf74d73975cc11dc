"""The steps of a run as a tree, and the rows of it that a page shows. Functions of values alone.

A run may have thousands of steps in hundreds of levels. `StepTree` says of each what is around
and inside it; `visible_rows` picks at most MAX_ROWS: by default down to the deepest level at which
all rows fit, so that a large run begins as an overview. A step that is folded says how many are
inside, and `View.flipped` opens or folds single ones. Rows beyond MAX_ROWS are on further pages,
so every step can be reached.

Ids are untrusted (`operations.nesting`), so nothing here recurses or relies on times that fit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from operator import lt
from typing import Final, NamedTuple

from otel_agent_telemetry.operations.nesting import NO_STEP, steps_around
from otel_agent_telemetry.storage.step_rows import StepColumns

MAX_ROWS: Final = 500
FEW_ROWS: Final = 20
ALL_LEVELS: Final = 1_000_000
"""A level below which no step is."""


class Axis(NamedTuple):
    """The part of time that bars are drawn over, in milliseconds since the run began."""

    begin_ms: float
    end_ms: float

    @property
    def span_ms(self) -> float:
        """Return its length, at least a microsecond, so that it can divide."""
        return max(self.end_ms - self.begin_ms, 0.001)


@dataclass(slots=True)
class StepTree:
    """Steps in order of their start, and for each position what is around and inside it.

    `until_ms` of a step that has not ended is the end of the axis. `inside` counts all steps
    below one, `failed_inside` those of them that failed; `critical` are the positions of steps that
    decided how long the run took.
    """

    steps: StepColumns
    axis: Axis
    around: list[int]
    begin_ms: list[float]
    until_ms: list[float]
    tops: list[int] = field(default_factory=list)
    below: list[list[int]] = field(default_factory=list)
    level: list[int] = field(default_factory=list)
    inside: list[int] = field(default_factory=list)
    failed_inside: list[int] = field(default_factory=list)
    critical: set[int] = field(default_factory=set)

    def above(self, position: int) -> list[int]:
        """Return the positions around one, the outermost first."""
        found = []
        while (position := self.around[position]) != NO_STEP:
            found.append(position)
        return found[::-1]


def step_tree(
    steps: StepColumns, *, origin: int, until_ms: float, starts_of_parents: Mapping[int, int] | None = None
) -> StepTree:
    """Return the tree of a run's steps.

    `origin` is when the run began, in nanoseconds since 1970; `until_ms` when it ended, or now, in
    milliseconds since then. `starts_of_parents`: see `storage.step_rows`. Steps end to the millisecond:
    reading ten thousand times of their ends would cost more than all else.

    `now_ns`: nanoseconds since 1970, the end of the axis for a run, and for steps, that are still going on.
    """
    begins = [(start - origin) / 1e6 for start in steps.start_ns]
    ends = [-inf if lasts is None else begin + lasts for begin, lasts in zip(begins, steps.lasts_ms, strict=True)]
    axis = Axis(min([0.0, *begins]), max([0.0, until_ms, *begins, *ends]))
    known = starts_of_parents and [starts_of_parents.get(number) for number in steps.numbers]
    around = steps_around(steps.span_ids, steps.parent_ids, steps.start_ns, known or None)
    tree = StepTree(steps, axis, around, begins, [axis.end_ms if end == -inf else end for end in ends])
    tree.below = [[] for _ in around]
    for position, outer in enumerate(around):
        (tree.tops if outer == NO_STEP else tree.below[outer]).append(position)
    _count(tree)
    tree.critical = _critical(tree)
    return tree


def preorder(tree: StepTree, tops: Sequence[int], enters: Callable[[int], bool] | None = None) -> Iterator[int]:
    """Yield positions depth first, those inside a step only where `enters` of it is true; None enters all."""
    # A list and not a recursion: agents nest their steps deeper than Python nests calls.
    waiting = list(reversed(tops))
    while waiting:
        position = waiting.pop()
        yield position
        if tree.below[position] and (enters is None or enters(position)):
            waiting.extend(reversed(tree.below[position]))


def _count(tree: StepTree) -> None:
    """Set the level of every step, and the number of steps and failed steps inside it."""
    size, around, failures = len(tree.around), tree.around, tree.steps.failed
    level, inside, failed = [1] * size, [0] * size, [0] * size
    # Steps stand in the order of their start, so the one around a step is before it, but for hosts with odd clocks.
    is_ordered = all(map(lt, around, range(size)))
    order: Sequence[int] = range(size) if is_ordered else list(preorder(tree, tree.tops))
    for position in order:
        if (outer := around[position]) != NO_STEP:
            level[position] = level[outer] + 1
    # Inner steps come after outer ones in the order, so backwards each sum is whole before it is added.
    for position in reversed(order):
        if (outer := around[position]) != NO_STEP:
            inside[outer] += inside[position] + 1
            failed[outer] += failed[position] + failures[position]
    tree.level, tree.inside, tree.failed_inside = level, inside, failed


def _critical(tree: StepTree) -> set[int]:
    """Return the positions of the steps without which the run would have been shorter.

    Backwards from the end: of the steps inside one the last to end, then the last that had ended
    when that one began, and so on; the part of a step after the end of the one around it does not count.
    """
    found: set[int] = set()
    waiting = [(tree.tops, tree.axis.end_ms)]
    while waiting:
        inside, outer_until = waiting.pop()
        until = outer_until
        if len(inside) > 1:
            inside = sorted(inside, key=lambda one: (min(tree.until_ms[one], outer_until), one), reverse=True)
        for position in inside:
            # A step may outlive the one around it; what it does then did not delay that one.
            stop = min(tree.until_ms[position], outer_until)
            if stop <= until and tree.begin_ms[position] <= stop:
                found.add(position)
                if tree.below[position]:
                    waiting.append((tree.below[position], stop))
                until = min(until, tree.begin_ms[position])
    return found


# --- the rows of a page


@dataclass(frozen=True, slots=True)
class View:
    """Which rows of a tree to show, as the address says.

    `top` is the row number of the step whose inside alone is shown, None for the whole run. A step is open when
    its level is below `level` (None: as deep as fits), or the other way round when `flipped` has its
    number. `skip` rows come before the first. With `matches` only steps for which it is true are
    shown, without nesting.
    """

    top: int | None = None
    level: int | None = None
    flipped: frozenset[int] = frozenset()
    skip: int = 0
    matches: Callable[[int], bool] | None = None


class VisibleRow(NamedTuple):
    """A row: the position of its step, its level within what is shown, and whether what is inside it follows."""

    position: int
    level: int
    is_open: bool


@dataclass(frozen=True, slots=True)
class VisibleRows:
    """At most MAX_ROWS rows of `total`, those after the first `skip`; `level` is the one that they are open down to."""

    rows: Sequence[VisibleRow]
    total: int
    skip: int
    level: int
    top: int | None
    axis: Axis


def visible_rows(tree: StepTree, view: View) -> VisibleRows:
    """Return the rows that a view shows; a view of a step that is not there shows the whole run."""
    numbers = tree.steps.numbers
    top = numbers.index(view.top) if view.top in numbers else None
    tops, outer, axis = tree.tops, 0, tree.axis
    if top is not None:
        tops, outer, axis = [top], tree.level[top] - 1, Axis(tree.begin_ms[top], _last_end(tree, top))
    level = 0 if view.matches else view.level or _fitting_level(tree, tops, outer)

    def is_open(position: int) -> bool:
        return (tree.level[position] - outer < level) != (numbers[position] in view.flipped)

    def row_of(position: int) -> VisibleRow:
        if view.matches:
            return VisibleRow(position, 1, is_open=False)
        return VisibleRow(position, tree.level[position] - outer, is_open(position) and bool(tree.below[position]))

    shown = sorted(filter(view.matches, preorder(tree, tops))) if view.matches else list(preorder(tree, tops, is_open))
    # An address of a run that has fewer rows than it had: the first page, rather than an empty one.
    skip = view.skip if 0 <= view.skip < len(shown) else 0
    return VisibleRows(list(map(row_of, shown[skip : skip + MAX_ROWS])), len(shown), skip, level, top, axis)


def _last_end(tree: StepTree, top: int) -> float:
    """Return when the last of a step and the steps inside it ended."""
    return max(tree.until_ms[position] for position in preorder(tree, [top]))


def _fitting_level(tree: StepTree, tops: Sequence[int], outer_level: int) -> int:
    """Return the deepest level down to which all steps fit on a page; ALL_LEVELS where all do.

    One more where that would be fewer than FEW_ROWS: an agent's single step around all others is no overview.
    """
    inside = tree.level if tops is tree.tops else [tree.level[position] for position in preorder(tree, tops)]
    counts = Counter(inside)
    shown = 0
    for level, count in sorted(counts.items()):
        if shown + count > MAX_ROWS:
            fitting = max(level - outer_level - 1, 1)
            return fitting if shown >= FEW_ROWS else fitting + (shown > 0)
        shown += count
    return ALL_LEVELS
