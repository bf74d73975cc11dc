"""The spans of a client's runs: how an explicit run becomes a span, and what ends it.

A run of the client takes the same way as any other: its span is started with a tracer, and the processor makes the
run in `on_start`, in the same call. What the application gave by name travels beside the span, in the context
(`StartParameters`), because an attribute cannot hold every value. The client itself is `client`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.trace import SpanContext, Status, StatusCode, Tracer

from otel_agent_telemetry import status as st
from otel_agent_telemetry.caller_values import SCALARS, split_settings
from otel_agent_telemetry.column_checks import plain_text
from otel_agent_telemetry.columns import SETTABLE_COLUMNS
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.attributes_in_place import is_first_to_look, run_attributes
from otel_agent_telemetry.otel.endings import Ending
from otel_agent_telemetry.otel.live_span import LiveSpan
from otel_agent_telemetry.otel.provider import private
from otel_agent_telemetry.otel.spans import StartParameters
from otel_agent_telemetry.recording.active_runs import ActiveRun
from otel_agent_telemetry.recording.recorder import Recorder

TRACER: Final = "otel_agent_telemetry"
"""Name of the tracer, and so the instrumentation scope of the client's spans."""
_ATTRIBUTE_OF = {name: names.PREFIX + name for name in SETTABLE_COLUMNS}
"""Column → the attribute of a span that sets it."""


class RunSpans:
    """Starts and ends the spans of one client's runs. Safe under threads; blocks for the recorder's appends only.

    The methods may raise whatever code of the application raises (a sampler, a span processor, a value's
    `__str__`): the client's public methods are the outer edge.
    """

    def __init__(
        self, config: TelemetryConfig, tracer: Tracer, recorder: Recorder, *, started_in: SpanContext | None
    ) -> None:
        self._config = config
        self._tracer = tracer
        self._recorder = recorder
        self._started_in = started_in
        self._is_first_to_look = is_first_to_look(recorder, tracer)

    def start(
        self, agent: str, job: str, trigger: str, kwargs: Mapping[str, Any], *, start_ns: int | None = None
    ) -> ActiveRun:
        """Start the span of a run and return the run that the processor has made of it in the same call.

        `start_ns`: nanoseconds since 1970 UTC, default now. Raises RuntimeError when no provider records the span.
        """
        settings, extra = split_settings(kwargs)
        wanted = plain_text(extra.pop("run_id")) if "run_id" in extra else None
        settings |= {"agent_name": agent, "job_type": job, "trigger_type": trigger}
        parameters = StartParameters(wanted, agent, settings, extra)
        attributes = run_attributes(agent, settings)
        title = f"invoke_agent {agent}"
        if start_ns is None:
            start_ns = self._recorder.clock.now_ns()
        context = parameters.in_context(self._started_in)
        parameters.attributes, given = (attributes, None) if self._is_first_to_look else (None, attributes)
        self._tracer.start_span(title, context=context, attributes=given, start_time=start_ns)
        if parameters.run is None:
            parameters.attributes = None
            # The application's sampler dropped the span. A run that was asked for by name is recorded all the same.
            tracer = private(self._config)[0].get_tracer(TRACER)
            tracer.start_span(title, context=context, attributes=attributes, start_time=start_ns)
        if parameters.run is None:
            raise RuntimeError(f"no span could be recorded; {self._recorder.counters.last_error}")
        return parameters.run

    def end(self, run: ActiveRun, status: Any, kwargs: Mapping[str, Any], *, end_ns: int | None = None) -> None:
        """End the span of a run with its status and its last columns.

        `status`: a word or an alias of `status`; any other text ends the run as `failed`.
        `end_ns`: nanoseconds since 1970 UTC, default now.
        """
        span = run.span
        settings: Mapping[str, Any] = {}
        if kwargs:
            settings, extra = split_settings(kwargs)
            run.update_settings(settings, extra)
            for name, value in settings.items():
                if type(value) in SCALARS:
                    # Set on the span as well, so that other exporters of the application see what the run has.
                    span.set_attribute(_ATTRIBUTE_OF[name], value)
        status = status if type(status) is str else plain_text(status)
        run.status = "" if status is None else status
        if type(span) is LiveSpan and type(status) is str:
            span._agent_telemetry.set_unobserved(names.STATUS, status)  # the run's columns do not depend on it
        elif type(status) in SCALARS:
            span.set_attribute(names.STATUS, status)
        if status != st.SUCCESS and st.canonical_status(status) not in (st.SUCCESS, st.PARTIAL):
            summary = settings.get("error_summary")
            span.set_status(Status(StatusCode.ERROR, summary if isinstance(summary, str) else None))
        # By the clock of the recorder, which a test may have replaced, and not by the one of the SDK.
        span.end(self._recorder.clock.now_ns() if end_ns is None else end_ns)


def record_exception(span: Any, problem: BaseException, ending: Ending) -> None:
    """Add an exception event as OpenTelemetry does, also when the exception's `__str__` raises."""
    try:
        # May raise: it formats the exception, whose methods are code of the application.
        span.record_exception(problem, escaped=True)
    except Exception:
        kind = type(problem).__name__
        span.add_event("exception", {"exception.type": kind, "exception.message": ending.summary or kind})
