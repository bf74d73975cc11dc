"""Metrics of runs and of our own work, for whoever has a MeterProvider; without one they cost nothing.

    agent.run.duration                histogram, s   of each run that ended
    agent.runs                        counter        runs that ended
    agent.run.items                   counter        items of ended runs, by `agent.run.outcome`
    agent.telemetry.lines             counter        lines of this process, by `result`: written, lost
    agent.telemetry.records           counter        records of this host, by `result`: delivered, rejected
    agent.telemetry.buffer.waiting    gauge, By      what waits on this host to be delivered

The first three have `gen_ai.agent.name`, `agent.run.job_type` and `agent.run.status`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Final

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from otel_agent_telemetry.interpreter import importing
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.recording.active_runs import ActiveRun
from otel_agent_telemetry.recording.recorder import Recorder

_OUTCOMES: Final = ("discovered", "succeeded", "failed", "skipped")


def _meter() -> metrics.Meter:
    """Return our meter; one that measures nothing where OTEL_PYTHON_METER_PROVIDER names none that exists."""
    try:
        return metrics.get_meter("otel_agent_telemetry")
    except Exception:  # OpenTelemetry has logged which
        return metrics.NoOpMeter("otel_agent_telemetry")


class RunMetrics:
    """The instruments of one recorder. Whoever collects them calls back in a thread of its own."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        meter = _meter()
        self._duration = meter.create_histogram("agent.run.duration", "s", "From a run's start to its end.")
        self._runs = meter.create_counter("agent.runs", "{run}", "Runs that ended.")
        self._items = meter.create_counter("agent.run.items", "{item}", "Items of runs that ended.")
        meter.create_observable_counter(
            "agent.telemetry.lines", [_careful(self._lines)], "{line}", "Lines of this process: written, lost."
        )
        meter.create_observable_counter(
            "agent.telemetry.records", [_careful(self._records)], "{record}", "Records of this host: where they are."
        )
        meter.create_observable_gauge(
            "agent.telemetry.buffer.waiting", [_careful(self._waiting)], "By", "What waits to be delivered."
        )

    def ended(self, run: ActiveRun) -> None:
        """Count a run that has ended. Never waits; costs nothing while nobody collects metrics."""
        if getattr(self._duration, "_real_instrument", self) is None:  # the API's proxy: no provider is set
            return
        fields = run.fields
        attributes = {
            names.GEN_AI_AGENT_NAME: fields.get("agent_name", ""),
            names.JOB_TYPE: fields.get("job_type", ""),
            names.STATUS: fields.get("status", ""),
        }
        self._duration.record(fields.get("duration_ms", 0) / 1000, attributes)
        self._runs.add(1, attributes)
        for outcome in _OUTCOMES:
            if number := fields.get(f"items_{outcome}"):
                self._items.add(number, {**attributes, "agent.run.outcome": outcome})

    def _lines(self) -> Iterable[Observation]:
        """Return how many lines were written and lost."""
        counters = self._recorder.counters
        written = counters.run_states + counters.events + counters.spans - counters.lost
        return [Observation(written, {"result": "written"}), Observation(counters.lost, {"result": "lost"})]

    def _records(self) -> Iterable[Observation]:
        """Return how many records were delivered and rejected on this host."""
        # Imported by whoever collects, not by the application's start.
        with importing():
            from otel_agent_telemetry.buffer.health import read_health

        health = read_health(self._recorder.config.buffer_dir)
        return [
            Observation(health.delivered, {"result": "delivered"}),
            Observation(health.rejected, {"result": "rejected"}),
        ]

    def _waiting(self) -> Iterable[Observation]:
        """Return how many bytes wait for delivery on this host."""
        with importing():
            from otel_agent_telemetry.buffer.layout import unconfirmed_bytes, undelivered

        folder = self._recorder.config.buffer_dir
        return [Observation(unconfirmed_bytes(undelivered(folder)) if folder.is_dir() else 0)]


def _careful(read: Callable[[], Iterable[Observation]]) -> Callable[[CallbackOptions], Iterable[Observation]]:
    """Return a callback that does not keep its object alive, as OpenTelemetry keeps callbacks, and omits what fails."""
    reference = weakref.WeakMethod(read)

    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        """Return the observations of a recorder; none when it is gone or its folder cannot be read."""
        alive = reference()
        try:
            return alive() if alive is not None else []
        except OSError:
            return []

    return observe
