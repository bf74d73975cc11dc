"""The live path: a SpanProcessor that records runs, events and steps as they happen.

On the application's thread, inside `start_span`, `add_event` and `end`. Everything that is
promised about a run holds when that call returns. Identity is captured at the start and
events when they are added, because a span keeps only its last 128 attributes and events.

A run's lines repeat most of what they say, so its columns are encoded once (`run_lines`) and
again only when the span's attributes or what the client set have changed.

The SDK calls processors without a try: each method here is an outer edge.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import SpanContext, StatusCode

from otel_agent_telemetry import forks
from otel_agent_telemetry import status as st
from otel_agent_telemetry.clock import instant_ns
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.suppress_instrumentation import SUPPRESS_INSTRUMENTATION
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.attributes_in_place import put_in_place
from otel_agent_telemetry.otel.elsewhere import Elsewhere, SpanElsewhere
from otel_agent_telemetry.otel.endings import Ending, ending_of, ending_of_left_open, ending_with_status
from otel_agent_telemetry.otel.late_runs import LateRuns, new_run, note_inside
from otel_agent_telemetry.otel.left_open_usage import LeftOpenUsage
from otel_agent_telemetry.otel.live_span import SDK_SPAN, LiveSpan, OpenSpan, opened_of
from otel_agent_telemetry.otel.logfire_calls import is_called_by_logfire
from otel_agent_telemetry.otel.plain_runs import PlainRuns
from otel_agent_telemetry.otel.plain_steps import PlainSteps
from otel_agent_telemetry.otel.run_lines import RunLines
from otel_agent_telemetry.otel.run_metrics import RunMetrics
from otel_agent_telemetry.otel.span_lines import SpanLines
from otel_agent_telemetry.otel.spans import START_PARAMETERS, SpanView, StartParameters, attributes_of, view_of
from otel_agent_telemetry.otel.step_usage import StepUsage
from otel_agent_telemetry.otel.unpickled_processor import UnpickledProcessor
from otel_agent_telemetry.recording.active_runs import ActiveRun
from otel_agent_telemetry.recording.recorder import Recorder, weak_callback

_MAX_OPEN_STEPS: Final = 100_000
_Ids = tuple[Any, ...]
"""A trace id, a span id, and maybe more: a `SpanContext` of the SDK is such a tuple."""


class AgentRunSpanProcessor(SpanProcessor):
    """Records the runs of one tracer provider. Constructible without arguments.

    `config`: default `TelemetryConfig.from_env()`. `recorder`: where records go, default
    the process's recorder of that configuration; several processors of one recorder record each
    span once. No method raises or waits, but `force_flush` and `shutdown`, which wait up to their
    timeout. A copy is the object itself; a pickled one is an `UnpickledProcessor`.

        provider = TracerProvider()
        provider.add_span_processor(AgentRunSpanProcessor())
    """

    def __init__(self, config: TelemetryConfig | None = None, *, recorder: Recorder | None = None) -> None:
        self.recorder = recorder or Recorder.shared(config or TelemetryConfig.from_env())
        self.config, self.active = self.recorder.config, self.recorder.active
        self._open: dict[int, OpenSpan] = self.active.open_spans
        self._left = self.active.left_spans
        self._metrics = self.recorder.component(RunMetrics)
        self._usage = self.recorder.component(StepUsage)
        self._lines = self.recorder.component(RunLines)
        self._span_lines = self.recorder.component(SpanLines)
        self._plain = self.recorder.component(PlainRuns)
        self._steps = self.recorder.component(PlainSteps)
        self._elsewhere = self.recorder.component(Elsewhere)
        self._late = self.recorder.component(LateRuns)
        self._takes_roots = self.config.runs == "root"
        self._was_started_in_run = self.config.parent_run_id is not None
        self.recorder.new_usage_sum = LeftOpenUsage
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
            if not forks.mark[0]:
                forks.notice()
            context = otel_context.get_current() if parent_context is None else parent_context
            parameters: StartParameters | None = context.get(START_PARAMETERS)  # type: ignore[assignment]  # the key is ours
            if parameters is not None and parameters.attributes is not None:
                put_in_place(parameters, span)
            if parameters is None and context.get(SUPPRESS_INSTRUMENTATION) and not is_called_by_logfire():
                return
            if type(span) is not SDK_SPAN or not self._begin_plain(span, context, parameters):
                self._begin(span, context, parameters)
        except Exception as problem:  # the outer edge of start_span
            if self.recorder.counters.span_start_failed(problem):
                self.recorder.leave_counters()

    def on_end(self, span: ReadableSpan) -> None:
        """End the run or step of a span that has ended."""
        try:
            if not forks.mark[0]:
                forks.notice()
            opened = self._take(span)
            if opened is None:
                return
            if opened.generation is not self.active.generation:
                return  # the parent process of a fork began it, and ends it
            if opened.is_run:
                self._end_run(opened, span)
            elif opened.changed and self._late.has_become_run(opened, span):
                inside = self._late.turn_into_run(opened, span)
                self._end_run(opened, span)
                self._late.move_inside(inside, opened.run)
            elif isinstance(opened, SpanElsewhere):
                self._elsewhere.end(opened, span)
            else:
                self._end_step(opened, span)
            opened.forget()
        except Exception as problem:  # the outer edge of span.end
            self.recorder.counters.internal("span end", problem)

    def shutdown(self) -> None:
        """Deliver what can be delivered within the exit timeout. Idempotent; later spans are still kept."""
        try:
            self.recorder.close()
        except Exception as problem:  # the outer edge of provider.shutdown
            self.recorder.counters.internal("shutdown", problem)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait up to `timeout_millis` until what was recorded has reached its target; False when the time ran out."""
        try:
            return self.recorder.flush(timeout_millis / 1000)
        except Exception as problem:  # the outer edge of provider.force_flush
            self.recorder.counters.internal("flush", problem)
            return False

    def _take(self, span: ReadableSpan) -> OpenSpan | None:
        """Return what is known of an ending span, give the span back as it was, and forget it."""
        opened: OpenSpan | None = getattr(span, "_agent_telemetry", None)
        if type(opened) is not OpenSpan or opened.sink is not self._span_lines:
            opened = self._open.get(span.context.span_id) if span.context is not None else None
        if opened is None or opened.ended:  # another processor of the same recorder was faster
            return None
        opened.ended = True
        if self._open.get(opened.number) is opened:
            del self._open[opened.number]
        self._left.append(opened)
        opened.detach()
        return opened

    # --- beginning

    def _begin_plain(self, span: Any, context: otel_context.Context, parameters: StartParameters | None) -> bool:
        """Begin a run or a step that a span of the SDK's own class is; return False where that takes the long way."""
        parent = span._parent
        if parent is None:
            if parameters is None and not self._takes_roots:
                return False
            may_have_parent = context or self._was_started_in_run
            parent_run_id = self._elsewhere.parent_of(span, context) if may_have_parent else None
            return self._plain.begin(span, parent_run_id, parameters)
        if parameters is not None or len(self._open) >= _MAX_OPEN_STEPS:
            return False
        above = self._above(parent, context)
        return above is not None and not above.run.is_elsewhere and self._steps.begin(span, above)

    def _begin(self, span: Span, context: otel_context.Context, parameters: StartParameters | None) -> None:
        """Decide what a span that starts is: a run, a step of a run, or a span below another process's run."""
        if type(span) is SDK_SPAN:
            ids: Any = span._context
            parent = span._parent
        else:
            context_of_span, parent = span.get_span_context(), span.parent
            ids = (context_of_span.trace_id, context_of_span.span_id)
            known = opened_of(span) or self._open.get(ids[1])
            if known is not None and known.live is span:
                return  # another processor of the same recorder, on the same provider, was faster
        above = None if parent is None else self._above(parent, context)
        if above is not None and above.run.is_elsewhere:
            above = self._late.begun(above)
        if parameters is not None or (parent is None and self._takes_roots):
            self._begin_run(span, ids, context, above, parameters)
            return
        attributes = attributes_of(span)
        if self._late.is_agent_run(span, attributes):
            if above is None or not self._late.repeats_run(view_of(span), above):
                self._begin_run(span, ids, context, above, None)
                return
            span.set_attribute(names.PART_OF, above.enclosing_run().run_id)
            attributes = attributes_of(span)
        if len(self._open) < _MAX_OPEN_STEPS or self._make_room():
            if above is None or (run := above.enclosing_run()).is_elsewhere:
                self._elsewhere.begin(span, ids, context, above)
            else:
                opened = self._enter(span, (ids[1], f"{ids[1]:016x}"), run, above)
                self._span_lines.write_step_start(opened, attributes)

    def _above(self, parent: SpanContext, context: otel_context.Context) -> OpenSpan | None:
        """Return what is known of a span's parent, also when that ended a moment ago."""
        opened = self._open.get(parent.span_id)
        live = None if opened is None else opened.live
        if type(live) is LiveSpan and live._context is parent:
            return opened
        # Ids repeat where an application seeds `random`: the parent is the span that is current.
        current = opened_of(trace.get_current_span(context))
        if current is not None and current.sink is self._span_lines and current.live.get_span_context() is parent:
            return current
        above: OpenSpan | None = self.active.left(parent.span_id) if opened is None else opened
        # Ended steps are passed over, so that a chain of spans, each below one that has ended, is not kept.
        while above is not None and above.ended and not above.is_run and above.counted is None and above.above:
            above = above.above
        return above

    def _enter(self, span: Span, ids: tuple[int, str], run: ActiveRun, above: OpenSpan | None) -> OpenSpan:
        opened = OpenSpan(run, span, ids, self._span_lines, self.active.generation, above)
        self._open[opened.number] = opened
        return opened

    def _make_room(self) -> bool:
        """Forget steps that were never ended, of runs that have; return whether that makes room for another one."""
        for span_id, opened in list(self._open.items()):
            if not opened.is_run and opened.run.ended:
                self._open.pop(span_id, None)
        number = len(self._open)
        if number >= _MAX_OPEN_STEPS:
            self.recorder.counters.warn("steps", "%d spans are open: further steps are not recorded", number)
        return number < _MAX_OPEN_STEPS

    def _begin_run(
        self,
        span: Span,
        ids: _Ids,
        context: otel_context.Context,
        above: OpenSpan | None,
        parameters: StartParameters | None,
    ) -> None:
        """Begin a run with the first state, which is on its way to the disk when this returns."""
        run = new_run(span, ids)
        run.span, run.handled_at_start = span, sys.exc_info()[1]
        wanted = None
        if parameters is not None:
            wanted = parameters.run_id
            run.settings, run.extra, run.agent_name = parameters.settings, parameters.extra, parameters.agent_name
        if above is not None:
            run.parent_run_id = above.enclosing_run().run_id or None
            note_inside(above, run)
        else:
            run.parent_run_id = self._elsewhere.parent_of(span, context)
        opened = self._enter(span, (ids[1], run.span_id), run, above)
        if self.active.exporter_present:
            self.active.mark_recorded_live(run.event_id)
        self._lines.start_run(run, wanted=wanted)
        opened.set_unobserved(names.RUN_ID, run.run_id)
        if parameters is not None:
            parameters.run = run

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
        if opened is not None and not opened.ended and opened.sink is self._span_lines and opened.number == span_id:
            return opened
        found = self._open.get(span_id)
        return None if found is None or found.run.is_elsewhere else found

    # --- ending

    def _end_step(self, opened: OpenSpan, span: ReadableSpan) -> None:
        if self._steps.end(opened, span):
            return
        run = opened.run
        used, view = self._span_lines.write_step_end(opened, span)
        if view is not None and names.PART_OF in view.attributes and run.takes_child_name and run.child_agent is None:
            self._late.take_name(run, view)
        self._usage.add(opened, used, may_be_call=view is not None)

    def _end_run(self, opened: OpenSpan, span: ReadableSpan) -> None:
        """Write the end of a run, by the fast path where nothing unusual has happened to its span."""
        run = opened.run
        if type(opened.live) is not SDK_SPAN or not self._plain.end(run, span, changed=opened.changed):
            self._write_end(opened, span)
        self.active.release(run)
        if not run.closed:
            self._metrics.ended(run)

    def _write_end(self, opened: OpenSpan, span: ReadableSpan) -> None:
        """Write the last state of a run: the status that was given wins over that of the span."""
        run = opened.run
        interrupted = sys.exc_info()[1]
        # Only a KeyboardInterrupt or the like that ends the block of the span: OpenTelemetry records an `Exception`
        # itself, and one that was being handled when the span began has nothing to do with it.
        if isinstance(interrupted, Exception) or interrupted is run.handled_at_start:
            interrupted = None
        given_status = run.status
        if given_status is None and (opened.changed or run.has_status):
            given_status = attributes_of(span).get(names.STATUS)
            run.has_status = given_status is not None
        if given_status is None:
            code = span.status.status_code
            if code is StatusCode.OK:
                run.has_status = True
            is_success = interrupted is None and code is not StatusCode.ERROR and run.exception is None
        else:
            is_success = st.canonical_status(given_status) == st.SUCCESS
        ending = _SUCCEEDED if is_success else self._ending(run, view_of(span), given_status, interrupted)
        end_ns = span.end_time
        if type(end_ns) is not int:
            end_ns = instant_ns(end_ns, self.recorder.clock.now_ns())
        self._lines.write_end(run, span, ending, end_ns=end_ns, changed=opened.changed)

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
        self._late.begin_open()
        for run in self.active.mine():
            try:
                known = run.exception or run.logged_exception
                ending = ending_of_left_open(view_of(run.span), known, run.last_error)
                self._lines.write_end(run, run.span, ending, end_ns=self.recorder.clock.now_ns(), changed=True)
                run.closed = True
                self._metrics.ended(run)
            except Exception as problem:  # one run's trouble spares the others
                self.recorder.counters.internal("closing a run", problem)


_SUCCEEDED: Final = Ending(st.SUCCESS)
