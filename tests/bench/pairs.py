"""Measuring two things in alternating pairs, so that a machine whose speed drifts slows both, and the rows of the table.

`BENCH_FAST=1` makes each measurement as short as it can be, to see that all of them run.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter_ns, thread_time_ns
from typing import NamedTuple

FAST = bool(os.environ.get("BENCH_FAST"))
PAIRS = 15
_FEW = 50

Burst = Callable[[], Sequence[int]]
"""Does something a number of times and returns the nanoseconds of each."""

SQLITE = "SQLite file"
HTTP = "HTTP service"
NO_TARGET = "-"


class Times(list[int]):
    """Wall nanoseconds of each of many calls, and the CPU nanoseconds of each."""

    def __init__(self, wall: Sequence[int] = (), cpu: Sequence[int] = ()) -> None:
        super().__init__(wall)
        self.cpu = list(cpu)


class Row(NamedTuple):
    """One row of the table. Figures are texts with their unit; `note` is what else the row needs."""

    what: str
    target: str
    p50: str
    p99: str
    goal: str
    verdict: str
    note: str = ""

    def line(self) -> str:
        """Return the row as one line of text."""
        return (
            f"{self.what:<72} {self.target:<13} {self.p50:>10} {self.p99:>10} {self.goal:>10} "
            f"{self.verdict:<7} {self.note}"
        ).rstrip()


HEADER = Row("what", "target", "p50", "p99", "goal", "verdict", "ours p50 / p99, theirs p50 / p99")


def verdict_of(figure: float, goal: float | None, *, at_least: bool = False) -> str:
    """Return whether a figure meets its goal; "-" when it has none."""
    if goal is None:
        return "-"
    return "met" if (figure >= goal if at_least else figure <= goal) else "MISSED"


def goal_text(goal: float | None, *, at_least: bool = False, unit: str = "") -> str:
    """Return a goal as the table shows it."""
    return "-" if goal is None else f"{'>=' if at_least else '<='} {goal:g}{unit}"


@dataclass(frozen=True)
class Ratio:
    """What came of it: medians over the pairs of (ours / theirs), at p50 and p99, and our own p50 and p99.

    The p99 of bursts of few samples is that of the samples of all.

    `goal`: None without one. `judged`: the quantile that the goal is about, 0.5 or 0.99.
    `cpu`: the ratio of CPU time at p50, where it was measured: of the calling thread, or of the process that imports.
    """

    name: str
    goal: float | None
    p50: float
    p99: float
    ours_us: tuple[float, float]
    theirs_us: tuple[float, float]
    goal_is_minimum: bool = False
    target: str = SQLITE
    judged: float = 0.5
    cpu: float | None = None

    @property
    def verdict(self) -> str:
        """Whether the goal is met: "met", "MISSED" or "-"."""
        return verdict_of(self.p99 if self.judged == 0.99 else self.p50, self.goal, at_least=self.goal_is_minimum)

    def line(self) -> str:
        """Return the row of the table."""
        note = (
            f"{self.ours_us[0]:.1f} / {self.ours_us[1]:.1f}, {self.theirs_us[0]:.1f} / {self.theirs_us[1]:.1f} us"
            + ("" if self.cpu is None else f"; CPU x{self.cpu:.2f}")
            + ("; goal is for p99" if self.judged == 0.99 else "")
        )
        goal = goal_text(self.goal, at_least=self.goal_is_minimum)
        return Row(self.name, self.target, f"x{self.p50:.2f}", f"x{self.p99:.2f}", goal, self.verdict, note).line()


class Curve(NamedTuple):
    """A growth curve: one ratio for each count of something."""

    of: str
    counts: Sequence[int]
    ratios: Sequence[Ratio]
    units_a_run: bool = False
    """Whether the microseconds are shown for one unit of the count, not for a run."""

    def line(self) -> str:
        """Return the curve as a small table of four lines."""
        shares = [count if self.units_a_run else 1 for count in self.counts]
        both = list(zip(self.ratios, shares, strict=True))
        lines = {
            self.of: [f"{count:,}" for count in self.counts],
            "ratio at p50": [f"x{ratio.p50:.2f}" for ratio in self.ratios],
            "ours, us": [f"{ratio.ours_us[0] / share:.1f}" for ratio, share in both],
            "theirs, us": [f"{ratio.theirs_us[0] / share:.1f}" for ratio, share in both],
        }
        return "\n".join(f"    {name:<40}" + "".join(f"{cell:>12}" for cell in cells) for name, cells in lines.items())


class Pairs(NamedTuple):
    """What was measured: the bursts of ours and of theirs, of which each two belong together."""

    ours: list[Sequence[int]]
    theirs: list[Sequence[int]]

    @property
    def _short(self) -> bool:
        """Whether a burst has too few samples for a p99 of its own."""
        return len(self.ours[0]) < _FEW

    def median_ratio(self, share: float) -> float:
        """Return the median over the pairs of ours / theirs at a quantile."""
        return statistics.median(at(mine, share) / at(other, share) for mine, other in zip(*self, strict=True))

    def pooled_ratio(self, share: float) -> float:
        """Return ours / theirs at a quantile of all samples, for quantiles that one burst is too short for."""
        return at(_flat(self.ours), share) / at(_flat(self.theirs), share)

    def cpu_ratio(self) -> float | None:
        """Return the median ratio of CPU time of the thread at p50, or None when it was not measured."""
        if not isinstance(self.ours[0], Times) or not isinstance(self.theirs[0], Times):
            return None
        both = zip(self.ours, self.theirs, strict=True)
        return statistics.median(at(mine.cpu, 0.5) / at(other.cpu, 0.5) for mine, other in both)

    def ratio(
        self,
        name: str,
        *,
        goal: float | None,
        goal_is_minimum: bool = False,
        target: str = SQLITE,
        judged: float = 0.5,
    ) -> Ratio:
        """Return the row of these pairs."""
        return Ratio(
            name,
            goal,
            self.median_ratio(0.5),
            self.pooled_ratio(0.99) if self._short else self.median_ratio(0.99),
            _micros(self.ours, pooled=self._short),
            _micros(self.theirs, pooled=self._short),
            goal_is_minimum,
            target,
            judged,
            self.cpu_ratio(),
        )


def measured(ours: Burst, theirs: Burst, pairs: int = PAIRS) -> Pairs:
    """Measure ours, theirs, theirs, ours, ours …; a first pair is thrown away."""
    ours(), theirs()
    done = Pairs([], [])
    for number in range(1 if FAST else pairs):
        if number % 2:
            mine, other = ours(), theirs()
        else:
            other, mine = theirs(), ours()
        done.ours.append(mine)
        done.theirs.append(other)
    return done


def in_pairs(
    name: str,
    *,
    goal: float | None,
    ours: Burst,
    theirs: Burst,
    pairs: int = PAIRS,
    goal_is_minimum: bool = False,
    target: str = SQLITE,
) -> Ratio:
    """Measure in alternating pairs; a first pair is thrown away."""
    return measured(ours, theirs, pairs).ratio(name, goal=goal, goal_is_minimum=goal_is_minimum, target=target)


def scaled(count: int) -> int:
    """Return how often something is done: `count`, or a fortieth of it when everything is to be short."""
    return max(count // 40, 2) if FAST else count


def at(samples: Sequence[int], share: float) -> float:
    """The sample below which that share of them lies."""
    ordered = sorted(samples)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def each(action: Callable[[], object], times: int) -> list[int]:
    """The nanoseconds of each of many calls."""
    taken = []
    for _ in range(scaled(times)):
        began = perf_counter_ns()
        action()
        taken.append(perf_counter_ns() - began)
    return taken


def timed(action: Callable[[], object], times: int, between: Callable[[], object] | None = None) -> Times:
    """Measure wall and CPU time of each of many calls, less what reading the clocks costs.

    `between` is called after each, unmeasured.
    """
    taken = Times()
    for _ in range(times):
        wall, cpu = _once(action)
        taken.append(max(wall - _CLOCKS[0], 1))
        taken.cpu.append(max(cpu - _CLOCKS[1], 1))
        if between is not None:
            between()
    return taken


def _once(action: Callable[[], object]) -> tuple[int, int]:
    cpu = thread_time_ns()
    began = perf_counter_ns()
    action()
    wall = perf_counter_ns() - began
    return wall, thread_time_ns() - cpu


def _flat(bursts: Sequence[Sequence[int]]) -> list[int]:
    return [one for burst in bursts for one in burst]


def _micros(bursts: Sequence[Sequence[int]], *, pooled: bool) -> tuple[float, float]:
    p50, p99 = (statistics.median(at(burst, share) for burst in bursts) / 1e3 for share in (0.5, 0.99))
    return p50, at(_flat(bursts), 0.99) / 1e3 if pooled else p99


def _clock_costs() -> tuple[int, int]:
    samples = [_once(lambda: None) for _ in range(2_000)]
    return int(at([wall for wall, _ in samples], 0.5)), int(at([cpu for _, cpu in samples], 0.5))


_CLOCKS = _clock_costs()
