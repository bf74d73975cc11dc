"""Classes of durations, of which a few numbers give any quantile to 5 %.

A class begins at one of `BOUNDS` and ends before the next, which is at most a tenth greater, so
its middle differs from each duration in it by less than 5 %. Durations below 20 ms have a class
each. The numbers of runs in each class can be added over agents and days, which quantiles cannot.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from math import ceil
from typing import Final

MAX_MS: Final = 10**12
"""Longer durations, more than thirty years, count as this one."""


def _bounds() -> Iterator[int]:
    """Yield the lower bounds of the classes: one a millisecond, later a tenth apart."""
    bound = 0
    while bound <= MAX_MS:
        yield bound
        bound = _next(bound)


def _next(bound: int) -> int:
    """Return the bound after one."""
    return max(bound + 1, bound * 11 // 10)


BOUNDS: Final = tuple(_bounds())
"""Where each class begins, in milliseconds."""


def class_of(duration_ms: int) -> int:
    """Return where the class of a duration begins."""
    return BOUNDS[bisect_right(BOUNDS, duration_ms) - 1] if duration_ms > 0 else 0


def quantile(runs: Mapping[int, int], share: float) -> float | None:
    """Return the duration that this share of the runs does not exceed, in milliseconds; None for no runs.

    `runs`: the beginning of a class → how many runs are in it. `share` is between 0 and 1.
    """
    total = sum(runs.values())
    rank = max(ceil(share * total), 1)
    for bound in sorted(runs):
        rank -= runs[bound]
        if rank <= 0:
            return _middle(bound)
    return None


def _middle(bound: int) -> float:
    """Return the harmonic mean of the least and the greatest duration of a class, whose relative error is smallest."""
    last = _next(bound) - 1
    return 2 * bound * last / (bound + last) if last > bound else float(bound)
