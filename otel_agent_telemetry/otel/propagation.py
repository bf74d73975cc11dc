"""Runs across processes: a run's id travels as W3C baggage, in headers and in the environment.

    request headers   a propagator beside the application's own adds `agent.run.id` to `baggage`
    a subprocess      `env={**os.environ, **run_environment()}`: TRACEPARENT and BAGGAGE

Whoever reads either gives its runs that `parent_run_id`. The id is told to everyone whom the
application sends baggage to; `TELEMETRY_PROPAGATE_RUNS=false` keeps it at home.
"""

from __future__ import annotations

from typing import Final

from opentelemetry import baggage, propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_agent_telemetry.active import open_run
from otel_agent_telemetry.run_id import check_custom_run_id

RUN_ID_KEY: Final = "agent.run.id"
_HEADER: Final = "baggage"


class RunPropagator(TextMapPropagator):
    """Writes the baggage of the context with the current run in it, over what a baggage propagator wrote before.

    Reading it back is the ordinary baggage propagator's work.
    """

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        """Add the header when there is a run around."""
        run_id = current_run_id(context)
        if run_id is not None:
            whole = baggage.set_baggage(RUN_ID_KEY, run_id, context)
            W3CBaggagePropagator().inject(carrier, whole, setter)

    def extract(
        self,
        carrier: CarrierT,  # noqa: ARG002 - the base class's signature
        context: Context | None = None,
        getter: Getter[CarrierT] = default_getter,  # noqa: ARG002 - as above
    ) -> Context:
        """The context as it is."""
        return Context() if context is None else context

    @property
    def fields(self) -> set[str]:
        """The headers that may be written."""
        return {_HEADER}


def propagate_runs() -> None:
    """Send the current run along wherever the application sends baggage. Idempotent."""
    whole = propagate.get_global_textmap()
    if _HEADER not in whole.fields or isinstance(whole, _WithRuns):
        return
    propagate.set_global_textmap(_WithRuns([whole, RunPropagator()]))


class _WithRuns(CompositePropagator):
    """The application's propagator, and ours."""


def current_run_id(context: Context | None = None) -> str | None:
    """The run id of the open run that the context's current span is, or is a step of; None outside."""
    run = open_run(trace.get_current_span(context).get_span_context().span_id)
    return None if run is None else run.run_id


def parent_run_of(context: Context | None) -> str | None:
    """The run that a context came from, as its baggage says; None when it says none that can be one."""
    told = baggage.get_baggage(RUN_ID_KEY, context)
    return str(told) if told is not None and check_custom_run_id(told) is None else None


def run_environment() -> dict[str, str]:
    """`TRACEPARENT` and `BAGGAGE` for a subprocess whose runs belong to the current one; empty outside of a run."""
    headers: dict[str, str] = {}
    if current_run_id() is not None:
        TraceContextTextMapPropagator().inject(headers)
        RunPropagator().inject(headers)
    return {name.upper(): value for name, value in headers.items()}
