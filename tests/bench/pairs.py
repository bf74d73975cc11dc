"""Measuring two things in alternating pairs, so that a machine whose speed drifts says the same."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns

Burst = Callable[[], list[int]]
"""Does something a number of times and returns the nanoseconds of each."""


@dataclass(frozen=True)
class Ratio:
    """What came of it: medians over the pairs of (ours / theirs), at p50 and p99, and our own p50 and p99."""

    name: str
    goal: float
    p50: float
    p99: float
    ours_us: tuple[float, float]
    theirs_us: tuple[float, float]
    goal_is_minimum: bool = False

    @property
    def met(self) -> bool:
        return self.p50 >= self.goal if self.goal_is_minimum else self.p50 <= self.goal

    def line(self) -> str:
        sign = ">=" if self.goal_is_minimum else "<="
        verdict = "met" if self.met else "MISSED"
        return (
            f"{self.name:58} p50 x{self.p50:6.2f}  p99 x{self.p99:6.2f}  goal {sign} {self.goal:<5} {verdict:7}"
            f" ours {self.ours_us[0]:9.1f} / {self.ours_us[1]:9.1f} us"
            f"  theirs {self.theirs_us[0]:9.1f} / {self.theirs_us[1]:9.1f} us"
        )


def in_pairs(
    name: str, *, goal: float, ours: Burst, theirs: Burst, pairs: int = 15, goal_is_minimum: bool = False
) -> Ratio:
    """Ours, theirs, ours, theirs …; a first pair is thrown away."""
    ours(), theirs()
    measured = []
    for number in range(pairs):
        if number % 2:
            mine, other = ours(), theirs()
        else:
            other, mine = theirs(), ours()
        measured.append((at(mine, 0.5), at(mine, 0.99), at(other, 0.5), at(other, 0.99)))
    columns = [statistics.median(column) for column in zip(*measured, strict=True)]
    return Ratio(
        name,
        goal,
        statistics.median(m50 / o50 for m50, _, o50, _ in measured),
        statistics.median(m99 / o99 for _, m99, _, o99 in measured),
        (columns[0] / 1e3, columns[1] / 1e3),
        (columns[2] / 1e3, columns[3] / 1e3),
        goal_is_minimum,
    )


def at(samples: list[int], share: float) -> float:
    """The sample below which that share of them lies."""
    ordered = sorted(samples)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def each(action: Callable[[], object], times: int) -> list[int]:
    """The nanoseconds of each of many calls."""
    taken = []
    for _ in range(times):
        began = perf_counter_ns()
        action()
        taken.append(perf_counter_ns() - began)
    return taken
