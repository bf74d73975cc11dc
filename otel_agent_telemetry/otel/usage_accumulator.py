"""What the steps of one live run have used so far: counted where they end, summed where the run does."""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any

from otel_agent_telemetry.otel.pricing import PriceList
from otel_agent_telemetry.otel.spans import SpanView
from otel_agent_telemetry.otel.usage import PLAIN_STEP, ModelCall, model_call_of, own_usage, step_usage
from otel_agent_telemetry.usage import COST, Usage, added, shown_usage


class UsageAccumulator:
    """For the threads in which a run's steps end. No lock: what they do here is each one step of the interpreter."""

    __slots__ = ("_own", "_plain", "_usages", "unpriced")

    def __init__(self) -> None:
        self._plain = itertools.count()
        self._usages: deque[Usage] = deque()
        self._own: Usage = {}
        self.unpriced: deque[ModelCall] = deque()
        """Model calls whose cost is not counted yet, because the price list was not there."""

    def __bool__(self) -> bool:
        return bool(self._usages or self._plain_steps())

    def _plain_steps(self) -> int:
        """How often the counter was asked: its state, read without asking it."""
        return int(self._plain.__reduce__()[1][0])

    def add(self, view: SpanView, prices: PriceList) -> None:
        """A step has ended."""
        usage = step_usage(view)
        if usage is PLAIN_STEP:
            next(self._plain)
            return
        self._usages.append(usage)
        call = model_call_of(view, usage)
        if call is not None:
            self.unpriced.append(call)
            if prices.is_loaded:
                self.price(prices)

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

    def set_run_total(self, view: SpanView) -> None:
        """What the run's own span says of the whole, or an agent's span that only repeats it."""
        self._own = own_usage(view) or self._own

    def shown(self) -> dict[str, Any]:
        """The run's usage as a reader sees it. Empty for none."""
        plain = self._plain_steps()
        steps = added([*list(self._usages), {"steps": plain}] if plain else list(self._usages))
        return shown_usage(own=self._own, steps=steps)
