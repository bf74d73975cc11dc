"""What the steps of one run have used so far: counted where they end, summed where the run does.

Costs are not counted here: prices are applied where runs are stored or read, from the sums
by model that `shown` gives. Which run or step a usage belongs to: `step_usage`.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import Counter, deque
from typing import Any, Final

from otel_agent_telemetry import forks
from otel_agent_telemetry.otel.spans import SpanView
from otel_agent_telemetry.otel.usage import PLAIN_STEP, own_usage
from otel_agent_telemetry.recording.active_runs import ActiveRun
from otel_agent_telemetry.usage import Usage, added, has_tokens, is_any_call, is_call, of_steps, shown_usage

MAX_APART: Final = 2_000
"""From so many items on, what is inside a step is summed up."""
_MAX_RUNS_INSIDE: Final = 1_000


_NOTHING: Final[Usage] = {}


class UsageAccumulator:
    """Sums up a run's use. Adding takes no lock: it is one step of the interpreter."""

    # As in `ActiveRun`: no defaults on the class.
    __slots__ = ("_has_plain_total", "_own", "_plain_steps", "_times_read", "_usages", "used")
    used: bool
    """Whether anything was added or noted; an attribute, because each end of a run asks."""

    def __init__(self) -> None:
        self.used = self._has_plain_total = False
        self._plain_steps: itertools.count[int] | None = None
        self._usages: deque[Usage] | None = None
        self._own: Usage = _NOTHING
        self._times_read = 0

    def add_plain_step(self) -> None:
        """Count a step that used nothing."""
        counter = self._plain_steps
        if counter is None:
            self.used = True
            with _guard:  # once a run
                if self._plain_steps is None:
                    self._plain_steps = itertools.count()
                counter = self._plain_steps
        next(counter)

    def add(self, usage: Usage) -> None:
        """Count what a step that has ended used, and what is inside it."""
        if usage is PLAIN_STEP:
            self.add_plain_step()
            return
        usages = self._usages
        if usages is None:
            self.used = True
            with _guard:
                if self._usages is None:
                    self._usages = deque()
                usages = self._usages
        usages.append(usage)

    def set_run_total(self, view: SpanView) -> None:
        """Note what the run's own span reports of the whole."""
        self._own, self._has_plain_total = own_usage(view) or self._own, False
        self.used = self.used or bool(self._own)

    def set_plain_total(self, tokens: Usage) -> None:
        """Note what the run's own span reports of the whole, given as `plain_totals.plain_total`."""
        self._own, self._has_plain_total, self.used = tokens, True, True

    def shown(self) -> dict[str, Any]:
        """Return the run's use as a reader sees it; empty for none."""
        usages = _in_groups(list(self._usages)) if self._usages is not None else []
        plain = self._count_plain_steps()
        if plain:
            usages.append({"steps": plain})
        if not usages and (self._has_plain_total or not self._own):
            return dict(self._own)
        return shown_usage(own=self._own, steps=added(usages))

    def _count_plain_steps(self) -> int:
        """Read the counter by taking from it, because no other way to its state works on every Python."""
        if self._plain_steps is None:
            return 0
        with _guard:
            taken = next(self._plain_steps) - self._times_read
            self._times_read += 1
            return taken


def _in_groups(usages: list[Usage]) -> list[Usage]:
    """Return usages with the same sum: one for those that are the same object, as `usage_of_kind` gives them."""
    times = Counter(map(id, usages))
    if len(times) == len(usages):
        return usages
    each = dict(zip(map(id, usages), usages, strict=True))
    return [
        usage if times[place] == 1 else {name: count * times[place] for name, count in usage.items()}
        for place, usage in each.items()
    ]


def take_inside(items: list[Any]) -> tuple[Usage, list[ActiveRun]]:
    """Take everything out of what is inside a step (`OpenSpan.inside`): the sum of the usages, and the runs.

    Takes no lock: of two threads that empty one list, each item goes to one of them.
    """
    usages: list[Usage] = []
    runs: list[ActiveRun] = []
    with contextlib.suppress(IndexError):
        while True:
            item = items.pop()
            if isinstance(item, ActiveRun):
                runs.append(item)
            else:
                usages.append(item)
    return added(_in_groups(usages)), runs


def shrink(items: list[Any]) -> None:
    """Sum up what is inside a step that stays open for long, so that its memory does not grow with its past."""
    usage, runs = take_inside(items)
    items.append(usage)
    items.extend(runs[:_MAX_RUNS_INSIDE])  # those that began last


class CountedCall:
    """What an ended call of a model or a tool has counted, for what ends inside it only now."""

    __slots__ = ("_inside", "_own", "calls", "is_tool")

    def __init__(self, own: Usage, inside: Usage) -> None:
        self._own, self._inside = own, inside
        self.calls = 0 if "model_calls" in inside else own.get("model_calls", 0)
        """Calls that the outer span counted for itself: the first ones inside it are those."""
        self.is_tool = "tool_calls" in own and not (inside and is_any_call(inside))
        """Whether it counted a tool call for itself: the first one inside it is that."""

    def without_repeats(self, usage: Usage) -> Usage:
        """Return what is new of a usage that ends inside."""
        if not is_call(usage):
            return self._without_tool(usage) if self.is_tool and "tool_calls" in usage else usage
        self.is_tool = False  # a tool that calls a model is an agent
        calls = usage.get("model_calls", 0)
        repeated, self.calls = min(calls, self.calls), max(self.calls - calls, 0)
        has_counted_tokens = has_tokens(self._own) and not has_tokens(self._inside)
        new = of_steps(usage) if has_counted_tokens else dict(usage)
        if calls > repeated:
            return {**new, "model_calls": calls - repeated}
        new.pop("model_calls", None)
        return new

    def _without_tool(self, usage: Usage) -> Usage:
        """Return a usage with one tool call less: what is inside has turned out to be that call."""
        self.is_tool = False
        rest = {name: value for name, value in usage.items() if name != "tool_calls"}
        return {**rest, "tool_calls": usage["tool_calls"] - 1} if usage["tool_calls"] > 1 else rest


_guard = threading.Lock()
"""Held for a few steps of the interpreter: when a run's first step ends, and where a sum is read."""


def _renew_guard() -> None:
    """Replace the lock in a forked child: another thread of the parent may have held it."""
    global _guard  # noqa: PLW0603 - the one lock of this module
    _guard = threading.Lock()


forks.at_fork(in_child=_renew_guard)
