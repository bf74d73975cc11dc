"""Which step each step of a run is inside of, whatever their ids are.

Ids come from anyone: a parent may be missing, repeat another step's id, or lead back to the step
itself. Every step gets a place all the same, and following the places always ends.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from itertools import count
from operator import lt
from typing import Final, TypeVar

T = TypeVar("T", str, int)

NO_STEP: Final = -1
"""The position of the step around one that is directly in its run."""


def steps_around(
    span_ids: Sequence[str],
    parent_ids: Sequence[str | None],
    starts: Sequence[T],
    starts_around: Sequence[T | None] | None = None,
) -> list[int]:
    """Return for each step the position of the step around it, NO_STEP where there is none.

    `starts` are texts in our form of time, or numbers. `starts_around`: when the parent of each began, where
    that is known; else the last of several with its id that had begun. A step whose parents lead back to
    itself is directly in the run.
    """
    around = _by_id_alone(span_ids, parent_ids)
    if around is None:
        around = _by_id_and_start(span_ids, parent_ids, starts, starts_around)
    # A step that stands behind the one around it cannot be in a circle; most runs have no others.
    if not all(map(lt, around, count())):
        _break_circles(around)
    return around


def _by_id_alone(span_ids: Sequence[str], parent_ids: Sequence[str | None]) -> list[int] | None:
    """Return the position of each step's parent, NO_STEP for none; None where several steps have one id."""
    position_of: dict[str | None, int] = dict(zip(span_ids, count()))
    if len(position_of) < len(span_ids):
        return None
    position_of.update({"": NO_STEP, None: NO_STEP})
    return [position_of.get(parent_id, NO_STEP) for parent_id in parent_ids]


def _by_id_and_start(
    span_ids: Sequence[str],
    parent_ids: Sequence[str | None],
    starts: Sequence[T],
    starts_around: Sequence[T | None] | None,
) -> list[int]:
    """Return the same where ids repeat: the start says which of several steps is meant."""
    by_id: defaultdict[str, list[int]] = defaultdict(list)
    for position in sorted(range(len(span_ids)), key=starts.__getitem__):
        by_id[span_ids[position]].append(position)
    around = [NO_STEP] * len(span_ids)
    for position, parent_id in enumerate(parent_ids):
        found = by_id.get(parent_id, ()) if parent_id else ()
        if len(found) == 1:
            around[position] = found[0]
        elif found:
            known = None if starts_around is None else starts_around[position]
            around[position] = _one_of(found, starts, start=starts[position], known=known)
    return around


def _one_of(found: Sequence[int], starts: Sequence[T], *, start: T, known: T | None) -> int:
    """Return which of several steps with one id, in order of their start, is around one that began at `start`."""
    if known is not None:
        at = bisect_left(found, known, key=starts.__getitem__)
        if at < len(found) and starts[found[at]] == known:
            return found[at]
    return found[max(bisect_right(found, start, key=starts.__getitem__) - 1, 0)]


def _break_circles(around: list[int]) -> None:
    """Place the steps of each circle directly in the run; what is below them stays below."""
    passed = [NO_STEP] * len(around)
    """The step from which each was first passed on the way up."""
    for first in range(len(around)):
        position = first
        while position != NO_STEP and passed[position] == NO_STEP:
            passed[position] = first
            position = around[position]
        if position == NO_STEP or passed[position] != first:
            continue
        while around[position] != NO_STEP:
            outer, around[position] = around[position], NO_STEP
            position = outer
