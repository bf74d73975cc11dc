"""What the steps of one live run have used so far: counted where they end, summed where the run does."""

from __future__ import annotations

from collections import deque
from typing import Any

from otel_agent_telemetry.otel.pricing import PriceList
from otel_agent_telemetry.otel.spans import SpanView
from otel_agent_telemetry.otel.usage import ModelCall, model_call_of, own_usage, step_usage
from otel_agent_telemetry.usage import COST, Usage, added, shown_usage

_FOLD_PAST = 512


class RunTally:
    """For the threads in which a run's steps end. No lock: an operation on a deque is one step of the interpreter.

    A sum is made by taking items out and putting their sum back, so that whoever else adds,
    or sums, at the same time loses nothing.
    """

    __slots__ = ("_usages", "unpriced")

    def __init__(self) -> None:
        self._usages: deque[Usage] = deque()
        self.unpriced: deque[ModelCall] = deque()
        """Model calls whose cost is not counted yet, because the price list was not there."""

    def __bool__(self) -> bool:
        return bool(self._usages)

    def add(self, view: SpanView, prices: PriceList) -> None:
        """A step has ended."""
        usage = step_usage(view)
        self._usages.append(usage)
        call = model_call_of(view, usage)
        if call is not None:
            self.unpriced.append(call)
            if prices.is_loaded:
                self.price(prices)
        if len(self._usages) > _FOLD_PAST:
            self._sum()

    def price(self, prices: PriceList) -> None:
        """Count the cost of the calls that have none yet. What no price is known for is left out for good."""
        while self.unpriced:
            try:
                call = self.unpriced.popleft()
            except IndexError:  # another thread was faster
                return
            cost = prices.cost_of(call)
            if cost is not None:
                self._usages.append({COST: cost})

    def _sum(self) -> Usage:
        taken = []
        try:
            while True:
                taken.append(self._usages.popleft())
        except IndexError:
            total = added(taken)
        self._usages.append(total)
        return total

    def shown(self, view: SpanView | None) -> dict[str, Any]:
        """The run's usage as a reader sees it; `view` is its own span, which may tell totals. Empty for none."""
        if not self._usages and view is None:
            return {}
        return shown_usage(own={} if view is None else own_usage(view), steps=self._sum() if self._usages else {})
