"""The live path: a SpanProcessor that records runs, events and steps as they happen.

On the application's thread, inside `start_span`, `add_event` and `end`. Everything that is
promised about a run holds when that call returns. Identity is captured at the start and
events when they are added, because a span keeps only its last 128 attributes and events.

A run's lines repeat most of what they say, so its columns are encoded once (`run_lines`) and
again only when the span's attributes or what the client set have changed.

The SDK calls processors without a try: each method here is an outer edge.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import SpanContext, StatusCode

from otel_agent_telemetry import status as st
from otel_agent_telemetry.clock import instant_ns
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.suppress_instrumentation import SUPPRESS_INSTRUMENTATION
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.live_span import SDK_SPAN, OpenSpan, opened_of
from otel_agent_telemetry.otel.mapping import Ending, ending_of, ending_with_status, own_agent_name, repeats
from otel_agent_telemetry.otel.run_lines import RunLines
from otel_agent_telemetry.otel.run_metrics import RunMetrics
from otel_agent_telemetry.otel.span_lines import SpanLines
from otel_agent_telemetry.otel.spans import (
    START_PARAMETERS,
    SpanView,
    StartParameters,
    attributes_of,
    parent_run_of,
    remote_parent,
    view_of,
)
from otel_agent_telemetry.otel.usage_accumulator import PendingUsage, UsageAccumulator
from otel_agent_telemetry.recording.active_runs import ActiveRun
from otel_agent_telemetry.recording.recorder import Recorder, weak_callback
from otel_agent_telemetry.run_id import span_event_id

_log = logging.getLogger(__name__)
_MAX_OPEN_STEPS: Final = 100_000
_Ids = tuple[Any, ...]
"""A trace id, a span id, and maybe more: a `SpanContext` of the SDK is such a tuple."""


class AgentRunSpanProcessor(SpanProcessor):
    """Records the runs of one tracer provider. Constructible without arguments.

    `config`: default `TelemetryConfig.from_env()`. `recorder`: where records go, default
    the process's recorder of that configuration. No method raises or waits, but
    `force_flush` and `shutdown`, which wait up to their timeout. A copy is the object itself;
    a pickled one is an `UnpickledProcessor`.
    """

    def __init__(self, config: TelemetryConfig | None = None, *, recorder: Recorder | None = None) -> None:
        self.recorder = recorder or Recorder.shared(config or TelemetryConfig.from_env())
        self.config = self.recorder.config
        self.active = self.recorder.active
        self._open: dict[int, OpenSpan] = self.active.open_spans
        self._metrics = self.recorder.component(RunMetrics)
        self._pending = self.recorder.component(PendingUsage)
        self._lines = self.recorder.component(RunLines)
        self._span_lines = self.recorder.component(SpanLines)
        self._takes_roots = self.config.runs == "root"
        self._takes_agents = self.config.runs != "marked"
        self._started_in = remote_parent(self.config.trace_parent)
        self.recorder.before_exit.append(weak_callback(self.close_open_runs))

    def __copy__(self) -> AgentRunSpanProcessor:
        return self

    def __deepcopy__(self, _memo: object) -> AgentRunSpanProcessor:
        return self

    def __reduce__(self) -> tuple[type[UnpickledProcessor], tuple[()]]:
        return UnpickledProcessor, ()

    # --- the SDK's hooks

    def on_start(self, span: Span, parent_context: otel_context.Context | None = None) -> None:
        """Begin a run or a step for a span that starts, or leave it alone."""
        try:
            context = otel_context.get_current() if parent_context is None else parent_context
            parameters = context.get(START_PARAMETERS)
            if parameters is not None or not context.get(SUPPRESS_INSTRUMENTATION):
                self._begin(span, context, parameters)  # type: ignore[arg-type]  # the key is ours
        except Exception as problem:  # the outer edge of start_span
            self.recorder.counters.internal("span start", problem)

    def on_end(self, span: ReadableSpan) -> None:
        """End the run or step of a span that has ended."""
        try:
            opened = self._take(span)
            if opened is None:
                return
            if opened.generation is not self.active.generation:
                return  # the parent process of a fork began it, and ends it
            if opened.is_run:
                self._end_run(opened, span)
            else:
                self._end_step(opened, span)
        except Exception as problem:  # the outer edge of span.end
            self.recorder.counters.internal("span end", problem)

    def shutdown(self) -> None:
        """Deliver what can be delivered within the exit timeout. Idempotent; later spans are still kept."""
        try:
            self.recorder.close()
        except Exception as problem:  # the outer edge of provider.shutdown
            self.recorder.counters.internal("shutdown", problem)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until what was recorded has reached its target; False when the time ran out."""
        try:
            return self.recorder.flush(timeout_millis / 1000)
        except Exception as problem:  # the outer edge of provider.force_flush
            self.recorder.counters.internal("flush", problem)
            return False

    def _take(self, span: ReadableSpan) -> OpenSpan | None:
        """Return what is known of an ending span, give the span back as it was, and forget it."""
        span_id = span.context.span_id if span.context is not None else 0
        opened = opened_of(span)
        if opened is None or opened.sink is not self._span_lines:
            opened = self._open.get(span_id)
        if opened is None or opened.ended:  # another processor of the same recorder was faster
            return None
        opened.ended = True
        if self._open.get(span_id) is opened:
            del self._open[span_id]
        self.active.leave(span_id, opened.run)
        opened.detach()
        return opened

    # --- beginning

    def _begin(self, span: Span, context: otel_context.Context, parameters: StartParameters | None) -> None:
        if type(span) is SDK_SPAN:
            ids: Any = span._context
            parent, known = span._parent, self._open.get(ids[1])
        else:
            context_of_span, parent = span.get_span_context(), span.parent
            ids = (context_of_span.trace_id, context_of_span.span_id)
            known = opened_of(span) or self._open.get(ids[1])
        if known is not None and known.live is span:
            return  # another processor of the same recorder, on the same provider, was faster
        above = None if parent is None else self._run_above(parent, context)
        if parameters is not None:
            parameters.run = self._begin_run(span, ids, context, above, parameters)
            return
        if parent is None and self._takes_roots:
            self._begin_run(span, ids, context, above, None)
            return
        attributes = attributes_of(span)
        if not self._is_agent_run(span, attributes):
            if above is not None:
                self._begin_step(span, ids, above, attributes)
        elif above is not None and self._repeats(view_of(span), above):
            span.set_attribute(names.PART_OF, above.run_id)
            self._begin_step(span, ids, above, attributes_of(span))
        else:
            self._begin_run(span, ids, context, above, None)

    def _run_above(self, parent: SpanContext, context: otel_context.Context) -> ActiveRun | None:
        """Return the run that a span's parent is or belongs to, also when that ended a moment ago."""
        opened = self._open.get(parent.span_id)
        if opened is not None and opened.live.get_span_context() is parent:
            return opened.run
        # Ids repeat where an application seeds `random`: the parent is the span that is current.
        current = opened_of(trace.get_current_span(context))
        if current is not None and current.sink is self._span_lines and current.live.get_span_context() is parent:
            return current.run
        return self.active.left_spans.get(parent.span_id) if opened is None else opened.run

    def _repeats(self, view: SpanView, run: ActiveRun) -> bool:
        name = run.child_agent
        if not repeats(view, run):
            return False
        event_id = span_event_id(view.trace_id, view.span_id, view.start_ns)
        self.active.mark_recorded_live(event_id)  # an exporter beside us must not record it as a run
        self._set_adopted_name(run, name)
        return True

    def _set_adopted_name(self, run: ActiveRun, before: str | None) -> None:
        """Set a name that was adopted on the run's own span, so that it has it wherever the span goes."""
        if run.child_agent is not None and before is None and run.span is not None:
            run.encoded = b""
            run.span.set_attribute(names.AGENT_NAME, run.child_agent)

    def _begin_step(self, span: Span, ids: _Ids, run: ActiveRun, attributes: dict[str, Any]) -> None:
        if len(self._open) >= _MAX_OPEN_STEPS:
            self._forget_left_open()
            if len(self._open) >= _MAX_OPEN_STEPS:
                number = len(self._open)
                self.recorder.counters.warn("steps", "%d spans are open: further steps are not recorded", number)
                return
        opened = self._enter(span, ids[1], f"{ids[1]:016x}", run)
        self._span_lines.write_step_start(opened, attributes)

    def _enter(self, span: Span, span_id: int, span_id_hex: str, run: ActiveRun) -> OpenSpan:
        opened = OpenSpan(run, span, span_id_hex, self._span_lines, self.active.generation)
        self._open[span_id] = opened
        opened.attach()
        return opened

    def _forget_left_open(self) -> None:
        """Forget steps that were never ended, of runs that have."""
        for span_id, opened in list(self._open.items()):
            if not opened.is_run and opened.run.ended:
                self._open.pop(span_id, None)

    def _is_agent_run(self, span: Span, attributes: dict[str, Any]) -> bool:
        """Return whether a span's attributes make it a run."""
        plan = self._span_lines.plans[tuple(attributes)]
        if plan.is_marked:
            return True
        return plan.may_be_agent and self._takes_agents and plan.kind_of(attributes, str(span.name)) == names.AGENT

    def _begin_run(
        self,
        span: Span,
        ids: _Ids,
        context: otel_context.Context,
        above: ActiveRun | None,
        parameters: StartParameters | None,
    ) -> ActiveRun:
        trace_id, span_id, start_ns = f"{ids[0]:032x}", f"{ids[1]:016x}", span.start_time
        if type(start_ns) is not int:
            start_ns = instant_ns(start_ns, 0)
        event_id = span_event_id(trace_id, span_id, start_ns)
        run = ActiveRun(event_id, trace_id, span_id, start_ns, UsageAccumulator())
        run.span, run.handled_at_start = span, sys.exc_info()[1]
        wanted = None
        if parameters is not None:
            wanted = parameters.run_id
            run.settings, run.extra, run.agent_name = parameters.settings, parameters.extra, parameters.agent_name
        run.parent_run_id = above.run_id if above is not None else self._parent_elsewhere(span, context)
        opened = self._enter(span, ids[1], span_id, run)
        if self.active.exporter_present:
            self.active.mark_recorded_live(event_id)
        self._lines.start_run(run, wanted=wanted)
        opened.set_unobserved(names.RUN_ID, run.run_id)
        run.attributes[names.RUN_ID] = run.run_id
        return run

    def _parent_elsewhere(self, span: Span, context: otel_context.Context) -> str | None:
        """Return the parent run in another process: by baggage, else by this process's environment."""
        parent_run_id = parent_run_of(context)
        if parent_run_id is None and self.config.parent_run_id is not None and self._begins_here(span):
            return self.config.parent_run_id
        return parent_run_id

    def _begins_here(self, span: Span) -> bool:
        """Return whether a span is the first of this process: without a parent, or below the environment's span."""
        parent, started_in = span.parent, self._started_in
        return parent is None or (started_in is not None and parent.span_id == started_in.span_id)

    def write_update(self, run: ActiveRun) -> None:
        """Write what the client has set on an open run since its last state."""
        self._lines.write_update(run)

    # --- events

    def record_event(self, opened: OpenSpan, name: str, attributes: Any, timestamp: Any) -> None:
        """Write one event of an open span; for events that come as log records. Never raises."""
        self._span_lines.record_event(opened, name, attributes, timestamp)

    def find_open(self, span_id: int, current: trace.Span) -> OpenSpan | None:
        """Return the open run or step with this span id; of several, which seeded ids give, the current one."""
        opened = opened_of(current)
        if opened is not None and not opened.ended and opened.sink is self._span_lines and opened.has_id(span_id):
            return opened
        return self._open.get(span_id)

    # --- ending

    def _end_step(self, opened: OpenSpan, span: ReadableSpan) -> None:
        run = opened.run
        view = self._span_lines.write_step_end(opened, span)
        if view is not None and names.PART_OF in view.attributes:
            run.usage.set_run_total(view)
            if run.takes_child_name and run.child_agent is None:
                run.child_agent = own_agent_name(view)
                self._set_adopted_name(run, None)
        if run.ended:
            self._pending.write(run)

    def _end_run(self, opened: OpenSpan, span: ReadableSpan) -> None:
        run = opened.run
        interrupted = sys.exc_info()[1]
        if isinstance(interrupted, Exception) or interrupted is run.handled_at_start:
            interrupted = None
        given_status = run.status
        if given_status is None and (opened.changed or run.has_status_attribute):
            given_status = attributes_of(span).get(names.STATUS)
        if given_status is None:
            has_failed = span.status.status_code is StatusCode.ERROR or run.exception is not None
            is_success = interrupted is None and not has_failed
        else:
            is_success = st.canonical_status(given_status) == st.SUCCESS
        ending = _SUCCEEDED if is_success else self._ending(run, view_of(span), given_status, interrupted)
        end_ns = span.end_time
        if type(end_ns) is not int:
            end_ns = instant_ns(end_ns, self.recorder.clock.now_ns())
        self._lines.write_end(run, span, ending, end_ns=end_ns, changed=opened.changed)
        self.active.release(run)
        if not run.closed:
            self._metrics.ended(run)

    def _ending(
        self, run: ActiveRun, view: SpanView, given_status: object, interrupted: BaseException | None
    ) -> Ending:
        if given_status is None:
            return ending_of(view, run.exception or run.logged_exception, interrupted)
        if st.canonical_status(given_status) in (None, st.RUNNING):
            self.recorder.counters.warn("status", "run %s: unknown status, stored as failed", run.run_id)
        return ending_with_status(given_status, ending_of(view, run.exception or run.logged_exception, None))

    def close_open_runs(self) -> None:
        """End every run that this process began and left open: what the interpreter's exit does.

        A later exit handler, finalizer or daemon thread may still end one: its end stands then.
        """
        for run in self.active.mine():
            try:
                ending = Ending(st.FAILED, "the process exited while the run was still open")
                self._lines.write_end(run, run.span, ending, end_ns=self.recorder.clock.now_ns(), changed=True)
                run.closed = True
                self._metrics.ended(run)
            except Exception as problem:  # one run's trouble spares the others
                self.recorder.counters.internal("closing a run", problem)


class UnpickledProcessor(SpanProcessor):
    """What a pickled processor becomes: it records nothing, and warns once when a span starts."""

    _has_warned = False

    def on_start(self, span: Span, parent_context: otel_context.Context | None = None) -> None:  # noqa: ARG002
        """Warn, the first time."""
        if not self._has_warned:
            self._has_warned = True
            _log.warning("a processor that came through pickle records nothing: make one in each process")

    def find_open(self, span_id: int, span: object) -> None:
        """Return None: no span is recorded."""


_SUCCEEDED: Final = Ending(st.SUCCESS)
