"""Runs across processes: a run's id travels as W3C baggage, in headers and in the environment.

    request headers   a propagator around the application's own adds `agent_run.id` to `baggage`
    a subprocess      `env={**os.environ, **run_environment()}`: TRACEPARENT, BAGGAGE and two ids

Whoever reads either gives its runs that `parent_run_id`. Everyone whom the application
sends baggage to receives the id; with `TELEMETRY_PROPAGATE_RUNS=false` it is not sent.
"""

from __future__ import annotations

from typing import Final

from opentelemetry import baggage, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_agent_telemetry.interpreter import importing
from otel_agent_telemetry.otel.live_span import opened_of
from otel_agent_telemetry.otel.spans import RUN_ID_KEY
from otel_agent_telemetry.recording.active_runs import ActiveRun, open_run
from otel_agent_telemetry.settings import EVENT_ID_VARIABLE, RUN_ID_VARIABLE

_HEADER: Final = "baggage"


class RunPropagator(TextMapPropagator):
    """The application's propagator, which gets the current run with the baggage that it injects."""

    def __init__(self, whole: TextMapPropagator) -> None:
        self._whole = whole

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        """Inject as the application does, from a context whose baggage names the run."""
        self._whole.inject(carrier, _with_run(context), setter)

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        """Extract as the application does."""
        return self._whole.extract(carrier, context, getter)

    @property
    def fields(self) -> set[str]:
        """Return the fields of the application's propagator."""
        return self._whole.fields


def propagate_runs() -> None:
    """Send the current run along wherever the application sends baggage. Idempotent.

    A propagator that the application sets later sends none. Raises ValueError when
    OTEL_PROPAGATORS names one that does not exist.
    """
    with importing():
        from opentelemetry import propagate

    whole = propagate.get_global_textmap()
    if _HEADER in whole.fields and not isinstance(whole, RunPropagator):
        propagate.set_global_textmap(RunPropagator(whole))


def _with_run(context: Context | None) -> Context | None:
    """Return a context whose baggage names the current run; the same where there is none."""
    run_id = current_run_id(context)
    return context if run_id is None else baggage.set_baggage(RUN_ID_KEY, run_id, context)


def current_run_id(context: Context | None = None) -> str | None:
    """Return the run id of the open run that the context's current span is, or is a step of; None outside."""
    run = _current_run(context)
    return None if run is None else run.run_id or None


def _current_run(context: Context | None = None) -> ActiveRun | None:
    """Return the open run that the context's current span is, or is a step of; None outside."""
    span = trace.get_current_span(context)
    opened = opened_of(span)  # two open spans have the same id where the application seeds `random`
    return opened.run if opened is not None and not opened.ended else open_run(span.get_span_context().span_id)


def run_environment() -> dict[str, str]:
    """Return the variables for a subprocess whose runs belong to the current one; empty without a run.

    `TRACEPARENT` and `BAGGAGE` (W3C), and the ids of the run alone: `TELEMETRY_RUN_ID`, `TELEMETRY_RUN_EVENT_ID`.
    """
    run = _current_run()
    if run is None or not run.run_id:
        return {}
    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers)
    W3CBaggagePropagator().inject(headers, _with_run(None))
    headers[_HEADER] = headers[_HEADER].replace("+", "%20")  # a form's plus; W3C decodes percent signs only
    ids = {RUN_ID_VARIABLE: run.run_id, EVENT_ID_VARIABLE: run.event_id}
    return {**{name.upper(): value for name, value in headers.items()}, **ids}
