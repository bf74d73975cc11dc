"""Costs of the first model calls of a process: counted in the background, once the price list is there.

Until then a run ends without its cost, and a later state of it brings that along.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Final

from otel_agent_telemetry.active import ActiveRun
from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.otel.mapping import json_object
from otel_agent_telemetry.otel.pricing import PRICES
from otel_agent_telemetry.recorder import Recorder, weakly
from otel_agent_telemetry.usage import USAGE_KEY
from otel_agent_telemetry.wire import dumps_text

_COST: Final = "cost_usd"
_EXIT_S: Final = 1.0


class LateCosts:
    """The runs of one recorder whose cost is owed. `prepare` and `owe` return at once."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._owed: deque[ActiveRun] = deque()
        self._thread: threading.Thread | None = None
        recorder.before_exit.append(weakly(self._settle_at_exit))

    def prepare(self) -> None:
        """A model is being called: the price list will be needed."""
        if PRICES.is_loaded or (self._thread is not None and self._thread.is_alive()):
            return
        self._thread = threading.Thread(target=self._settle, name="agent-telemetry-prices", daemon=True)
        self._thread.start()

    def owe(self, run: ActiveRun) -> None:
        """A run has ended before its calls had a price."""
        self._owed.append(run)
        if PRICES.is_loaded:
            self._settle()
        else:
            self.prepare()

    def _settle(self) -> None:
        try:
            PRICES.load()
            while self._owed:
                run = self._owed.popleft()
                if run.generation is self._recorder.active.generation:  # after a fork it is the parent's
                    self._write_cost(run)
        except IndexError:  # another thread was faster
            return
        except Exception as problem:  # the outer edge of the background
            self._recorder.counters.internal("cost of a run", problem)

    def _write_cost(self, run: ActiveRun) -> None:
        run.tally.price(PRICES)
        cost = run.tally.shown(None).get(_COST)
        if cost is None:
            return
        metrics = json_object(run.fields.get("metrics_json") or "{}")
        used = metrics.get(USAGE_KEY)
        metrics[USAGE_KEY] = {_COST: cost, **(used if isinstance(used, dict) else {})}
        updated_at = iso_utc(run.next_update_ns(self._recorder.clock.now_ns()))
        run.fields = {**run.fields, "metrics_json": dumps_text(metrics), "updated_at": updated_at}
        self._recorder.record_run(run.fields)

    def _settle_at_exit(self) -> None:
        """What is owed when the interpreter ends is waited for, a moment."""
        deadline = time.monotonic() + min(_EXIT_S, self._recorder.config.exit_timeout_s / 2)
        while self._owed and self._thread is not None and self._thread.is_alive() and time.monotonic() < deadline:
            self._thread.join(0.05)
