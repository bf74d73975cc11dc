"""What a run used and was not known when it ended: brought along by a later state of it.

The cost of a process's first model calls, whose price list is loaded in the background; and
steps that end after their run.
"""

from __future__ import annotations

import threading
from collections import deque

from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.otel.mapping import json_object
from otel_agent_telemetry.otel.pricing import PRICES
from otel_agent_telemetry.recording.active_runs import ActiveRun
from otel_agent_telemetry.recording.recorder import Recorder
from otel_agent_telemetry.usage import USAGE_KEY
from otel_agent_telemetry.wire import dumps_text


class PendingCosts:
    """For the runs of one recorder. No method waits."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._owed: deque[ActiveRun] = deque()
        self._thread: threading.Thread | None = None

    def prepare(self) -> None:
        """A model is being called: the price list will be needed."""
        if PRICES.is_loaded or (self._thread is not None and self._thread.is_alive()):
            return
        self._thread = threading.Thread(target=self._settle, name="agent-telemetry-prices", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no more threads, or the interpreter is ending: there will be no cost
            self._thread = None

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
                    run.usage.price(PRICES)
                    self.write(run)
        except IndexError:  # another thread was faster
            return
        except Exception as problem:  # the outer edge of the background
            self._recorder.counters.internal("cost of a run", problem)

    def write(self, run: ActiveRun) -> None:
        """Write what an ended run used, as far as it is known now, unless that stands there already."""
        metrics = json_object(run.fields.get("metrics_json") or "{}")
        said = metrics.get(USAGE_KEY)
        used = run.usage.shown()
        given = run.reported_usage
        metrics[USAGE_KEY] = dict(sorted({**used, **given}.items()))
        if metrics[USAGE_KEY] == said:
            return
        updated_at = iso_utc(run.next_update_ns(self._recorder.clock.now_ns()))
        run.fields = {**run.fields, "metrics_json": dumps_text(metrics), "updated_at": updated_at}
        self._recorder.record_run(run.fields)
