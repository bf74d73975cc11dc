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
from otel_agent_telemetry.otel.ended_spans import EXCEPTION
from otel_agent_telemetry.otel.live_span import SDK_SPAN, LiveSpan, OpenSpan, opened_of
from otel_agent_telemetry.otel.logfire_calls import is_called_by_logfire
from otel_agent_telemetry.otel.mapping import (
    Ending,
    agent_name_of,
    ending_of,
    ending_of_left_open,
    ending_with_status,
    note_agent,
    own_agent_name,
    repeats,
)
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
from otel_agent_telemetry.otel.usage_accumulator import (
    MAX_APART,
    CountedCall,
    PendingUsage,
    UsageAccumulator,
    shrink,
    take_inside,
)
from otel_agent_telemetry.recording.active_runs import ActiveRun
from otel_agent_telemetry.recording.recorder import Recorder, weak_callback
from otel_agent_telemetry.run_id import span_event_id
from otel_agent_telemetry.usage import Usage, folded, is_call

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
            if parameters is not None or not context.get(SUPPRESS_INSTRUMENTATION) or is_called_by_logfire():
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
            elif opened.changed and self._has_become_run(opened, span):
                self._end_late_run(opened, span)
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
        """Wait until what was recorded has reached its target; False when the time ran out."""
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
        self.active.leave(opened.number, opened)
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
        above = None if parent is None else self._above(parent, context)
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
            span.set_attribute(names.PART_OF, above.enclosing_run().run_id)
            self._begin_step(span, ids, above, attributes_of(span))
        else:
            self._begin_run(span, ids, context, above, None)

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
        above: OpenSpan | None = self.active.left_spans.get(parent.span_id) if opened is None else opened
        # Ended steps are passed over, so that a chain of spans, each below one that has ended, is not kept.
        while above is not None and above.ended and not above.is_run and above.counted is None and above.above:
            above = above.above
        return above

    def _repeats(self, view: SpanView, above: OpenSpan) -> bool:
        """Return whether an agent's span repeats the run, or the step that turns into a run, around it."""
        run = self._agent_around(above)
        if run.takes_child_name and run.child_agent is None:
            self._look_at_earlier(run)
        if not self._is_part_of(view, run):
            return False
        event_id = span_event_id(view.trace_id, view.span_id, view.start_ns)
        self.active.mark_recorded_live(event_id)  # an exporter beside us must not record it as a run
        return True

    def _is_part_of(self, view: SpanView, run: ActiveRun) -> bool:
        """Return whether an agent's span repeats a run, which may take its name from it."""
        name = run.child_agent
        if not repeats(view, run):
            return False
        self._set_adopted_name(run, name)
        return True

    def _look_at_earlier(self, run: ActiveRun) -> None:
        """Let agents that began before, and have said so only since, give a run its name first."""
        for opened in list(self._open.values()):  # in order of their start; once a run that names no agent
            above = opened.above
            if opened.is_run or opened.ended or not opened.changed or above is None:
                continue
            if self._may_become_run(opened.live) and self._agent_around(above) is run:
                self._late_run(opened)

    def _agent_around(self, above: OpenSpan) -> ActiveRun:
        """Return the run around a span, also one that a step around it will be when it ends."""
        at: OpenSpan | None = above
        while at is not None and not at.is_run:
            if at.changed and not at.ended and (late := self._late_run(at)) is not None:
                return late
            at = at.above
        if at is None:
            return above.run
        if at.changed and not at.ended and "agent_name" not in at.run.settings:
            view = view_of(at.live)
            at.run.agent_name = agent_name_of(view)
            note_agent(at.run, view)
        return at.run

    def _late_run(self, opened: OpenSpan) -> ActiveRun | None:
        """Return the run that an open step will be by what its attributes say now; None for a step."""
        if opened.late_run is None and self._may_become_run(opened.live):
            view = view_of(opened.live)
            if opened.above is None or not self._is_part_of(view, self._agent_around(opened.above)):
                ids = opened.live.get_span_context()
                opened.late_run = _new_run(opened.live, (ids.trace_id, ids.span_id))
                opened.late_run.span, opened.late_run.agent_name = opened.live, agent_name_of(view)
                note_agent(opened.late_run, view)
        return opened.late_run

    def _may_become_run(self, span: ReadableSpan) -> bool:
        """Return whether the attributes of a span that began as a step make it a run now."""
        attributes = attributes_of(span)
        return names.PART_OF not in attributes and self._is_agent_run(span, attributes)

    def _set_adopted_name(self, run: ActiveRun, before: str | None) -> None:
        """Set a name that was adopted on the run's own span, so that it has it wherever the span goes."""
        if run.child_agent is not None and before is None and run.span is not None and not run.ended:
            run.encoded = b""
            run.span.set_attribute(names.AGENT_NAME, run.child_agent)

    def _begin_step(self, span: Span, ids: _Ids, above: OpenSpan, attributes: dict[str, Any]) -> None:
        if len(self._open) >= _MAX_OPEN_STEPS:
            self._forget_left_open()
            if len(self._open) >= _MAX_OPEN_STEPS:
                number = len(self._open)
                self.recorder.counters.warn("steps", "%d spans are open: further steps are not recorded", number)
                return
        opened = self._enter(span, (ids[1], f"{ids[1]:016x}"), above.enclosing_run(), above)
        self._span_lines.write_step_start(opened, attributes)

    def _enter(self, span: Span, ids: tuple[int, str], run: ActiveRun, above: OpenSpan | None) -> OpenSpan:
        opened = OpenSpan(run, span, ids, self._span_lines, self.active.generation, above)
        self._open[ids[0]] = opened
        return opened

    def _forget_left_open(self) -> None:
        """Forget steps that were never ended, of runs that have."""
        for span_id, opened in list(self._open.items()):
            if not opened.is_run and opened.run.ended:
                self._open.pop(span_id, None)

    def _is_agent_run(self, span: ReadableSpan, attributes: dict[str, Any]) -> bool:
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
        above: OpenSpan | None,
        parameters: StartParameters | None,
    ) -> ActiveRun:
        run = _new_run(span, ids)
        run.span, run.handled_at_start = span, sys.exc_info()[1]
        wanted = None
        if parameters is not None:
            wanted = parameters.run_id
            run.settings, run.extra, run.agent_name = parameters.settings, parameters.extra, parameters.agent_name
        if above is not None:
            run.parent_run_id = above.enclosing_run().run_id
            _note_inside(above, run)
        elif context or self.config.parent_run_id is not None:
            run.parent_run_id = self._parent_elsewhere(span, context)
        opened = self._enter(span, (ids[1], run.span_id), run, above)
        if self.active.exporter_present:
            self.active.mark_recorded_live(run.event_id)
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
        if opened is not None and not opened.ended and opened.sink is self._span_lines and opened.number == span_id:
            return opened
        return self._open.get(span_id)

    # --- ending

    def _end_step(self, opened: OpenSpan, span: ReadableSpan) -> None:
        run = opened.run
        used, view = self._span_lines.write_step_end(opened, span)
        if view is not None and names.PART_OF in view.attributes and run.takes_child_name and run.child_agent is None:
            run.child_agent = own_agent_name(view)
            self._set_adopted_name(run, None)
        runs: list[ActiveRun] = []
        below: Usage = {}
        if opened.inside:
            below, runs = take_inside(opened.inside)
        if view is not None and is_call(used):
            opened.counted = CountedCall(used, below)
        self._add_up(opened, folded(used, below) if below else used, runs)

    def _add_up(self, opened: OpenSpan, used: Usage, runs: list[ActiveRun]) -> None:
        """Give what a step used, and the runs inside it, to the open step around it, else to its run."""
        above = opened.above
        while above is not None and not above.is_run:
            if not above.ended:
                above.inside.append(used)
                above.inside.extend(runs)
                if len(above.inside) > MAX_APART:
                    shrink(above.inside)
                if not above.has_ended():
                    return
                used, runs = take_inside(above.inside)  # it ended in another thread meanwhile
                if not used and not runs:
                    return
            if above.counted is not None:
                used = above.counted.without_repeats(used)
            above = above.above
        run = opened.run if above is None else above.run
        run.usage.add(used)
        if run.ended:
            self._pending.write(run)

    def _has_become_run(self, opened: OpenSpan, span: ReadableSpan) -> bool:
        """Return whether a step turns out to be a run: an agent's whose attributes came after its start."""
        if not self._may_become_run(span):
            return False
        return opened.late_run is not None or opened.above is None or not self._repeats(view_of(span), opened.above)

    def _end_late_run(self, opened: OpenSpan, span: ReadableSpan) -> None:
        """Record a run that was a step until now; what is inside it moves to it."""
        outer = opened.enclosing_run()
        ids = span.get_span_context()
        assert ids is not None, "the SDK gives every recorded span a context"
        run = opened.late_run or _new_run(span, (ids.trace_id, ids.span_id))
        used, runs = take_inside(opened.inside)
        if used:
            run.usage.add(used)
        run.span, run.parent_run_id, run.start_commit = span, outer.run_id, outer.start_commit
        raised = (dict(event.attributes or {}) for event in reversed(span.events) if event.name == EXCEPTION)
        run.exception = next(raised, None)
        self.active.mark_recorded_live(run.event_id)
        self._lines.start_late_run(run, span)
        self._span_lines.write_late_step(span, outer, run)
        if opened.above is not None:
            _note_inside(opened.above, run)
        opened.run, opened.is_run, outer.has_late_runs = run, True, True
        self._end_run(opened, span)
        for inner in runs:
            if inner.parent_run_id == outer.run_id and self.active.is_mine(inner):
                self._lines.move_run(inner, run)

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
                known = run.exception or run.logged_exception
                ending = ending_of_left_open(view_of(run.span), known, run.last_error)
                self._lines.write_end(run, run.span, ending, end_ns=self.recorder.clock.now_ns(), changed=True)
                run.closed = True
                self._metrics.ended(run)
            except Exception as problem:  # one run's trouble spares the others
                self.recorder.counters.internal("closing a run", problem)


def _new_run(span: ReadableSpan, ids: _Ids) -> ActiveRun:
    """Return the run that a span is, without an id."""
    trace_id, span_id, start_ns = f"{ids[0]:032x}", f"{ids[1]:016x}", span.start_time
    if type(start_ns) is not int:
        start_ns = instant_ns(start_ns, 0)
    return ActiveRun(span_event_id(trace_id, span_id, start_ns), trace_id, span_id, start_ns, UsageAccumulator())


def _note_inside(above: OpenSpan, run: ActiveRun) -> None:
    """Note a run inside a step, which moves to the step where that turns out to be a run too."""
    if not above.is_run and not above.ended:
        above.inside.append(run)


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
