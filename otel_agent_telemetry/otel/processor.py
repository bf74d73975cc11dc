"""The live door: a SpanProcessor that records runs, events and steps as they happen.

On the application's thread, inside `start_span`, `add_event` and `end`. Everything that is
promised about a run holds when that call returns. Identity is captured at the start and
events when they are added, because a span keeps only its last 128 attributes and events.
There is no hook for events, so the span's own `add_event` is shadowed on the instance and
given back at its end; `record_exception` goes through it.

The SDK calls processors without a net: each method here is an outer edge.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from otel_agent_telemetry import status as st
from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.columns import SCHEMA_VERSION
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.suppress_instrumentation import instrumentation_suppressed
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.ended_spans import step_members
from otel_agent_telemetry.otel.mapping import (
    Ending,
    Overrides,
    agent_name_of,
    differing,
    ending_fields,
    ending_of,
    ending_with_status,
    own_agent_name,
    repeats,
    run_columns,
)
from otel_agent_telemetry.otel.pending_costs import PendingCosts
from otel_agent_telemetry.otel.pricing import PRICES
from otel_agent_telemetry.otel.propagation import parent_run_of
from otel_agent_telemetry.otel.run_metrics import RunMetrics
from otel_agent_telemetry.otel.spans import SpanView, attributes_of, view_of
from otel_agent_telemetry.otel.start_parameters import EventPayload, StartParameters
from otel_agent_telemetry.otel.usage import is_model_call
from otel_agent_telemetry.otel.usage_accumulator import UsageAccumulator
from otel_agent_telemetry.recording.active_runs import ActiveRun, ResourceDefaults
from otel_agent_telemetry.recording.recorder import Recorder, weak_callback
from otel_agent_telemetry.redaction import clean
from otel_agent_telemetry.run_id import span_event_id

_MAX_OPEN_STEPS: Final = 100_000


class _Open:
    """An open span of ours: a run itself, or a step of one."""

    __slots__ = ("is_run", "live", "run", "span_id")

    def __init__(self, run: ActiveRun, live: Span, span_id: str, *, is_run: bool) -> None:
        self.run = run
        self.live = live
        self.span_id = span_id
        self.is_run = is_run


class AgentRunSpanProcessor(SpanProcessor):
    """Records the runs of one tracer provider. Constructible without arguments.

    `config`: default `TelemetryConfig.from_env()`. `recorder`: where records go, default
    the process's recorder of that configuration. No method raises or waits, but
    `force_flush` and `shutdown`, which wait up to their timeout.
    """

    def __init__(self, config: TelemetryConfig | None = None, *, recorder: Recorder | None = None) -> None:
        self.recorder = recorder or Recorder.shared(config or TelemetryConfig.from_env())
        self.config = self.recorder.config
        self.active = self.recorder.active
        self._open: dict[int, _Open] = self.active.open_spans
        self._metrics = self.recorder.component(RunMetrics)
        self._late = self.recorder.component(PendingCosts)
        self.recorder.before_exit.append(weak_callback(self.close_open_runs))

    # --- the SDK's hooks

    def on_start(self, span: Span, parent_context: otel_context.Context | None = None) -> None:
        """A span starts: begin a run or a step, or leave it alone."""
        try:
            order = StartParameters.of(parent_context)
            if order is not None or not instrumentation_suppressed(parent_context):
                self._begin(span, parent_context, order)
        except Exception as problem:  # the outer edge of start_span
            self.recorder.counters.internal("span start", problem)

    def on_end(self, span: ReadableSpan) -> None:
        """A span has ended: end its run or step."""
        try:
            context = span.context
            opened = self._open.pop(context.span_id, None) if context is not None else None
            if opened is None:
                return
            self.active.leave(context.span_id, opened.run)
            opened.live.__dict__.pop("add_event", None)
            if opened.is_run:
                self._end_run(opened.run, view_of(span))
            else:
                self._end_step(opened, view_of(span))
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

    # --- beginning

    def _begin(self, span: Span, context: otel_context.Context | None, order: StartParameters | None) -> None:
        span_id, parent = span.get_span_context().span_id, span.parent
        if span_id in self._open:
            return  # another processor of the same recorder, on the same provider, was faster
        above = self._run_at(parent.span_id) if parent is not None else None
        if order is not None:
            order.run = self._begin_run(span, view_of(span), context, above, order)
        elif self._is_run(span, is_root=parent is None):
            view = view_of(span)
            if above is not None and self._repeats(view, above):
                span.set_attribute(names.PART_OF, above.run_id)
                self._begin_step(span, view, above)
            else:
                self._begin_run(span, view, context, above, None)
        elif above is not None:
            self._begin_step(span, view_of(span), above)

    def _run_at(self, span_id: int) -> ActiveRun | None:
        """The run that a span is or belongs to, also when it ended a moment ago."""
        opened = self._open.get(span_id)
        return opened.run if opened is not None else self.active.left_spans.get(span_id)

    def _repeats(self, view: SpanView, run: ActiveRun) -> bool:
        name = run.child_agent
        if not repeats(view, run):
            return False
        self.active.mark_recorded_live(
            span_event_id(view.trace_id, view.span_id)
        )  # an exporter beside us must not take it up
        self._tell_name(run, name)
        return True

    def _tell_name(self, run: ActiveRun, before: str | None) -> None:
        """Set a name that was adopted on the run's own span, so that it has it wherever the span goes."""
        if run.child_agent is not None and before is None and run.span is not None:
            run.span.set_attribute(names.AGENT_NAME, run.child_agent)

    def _begin_step(self, span: Span, view: SpanView, run: ActiveRun) -> None:
        if len(self._open) >= _MAX_OPEN_STEPS:
            self._forget_left_open()
        if len(self._open) >= _MAX_OPEN_STEPS:
            self.recorder.counters.warn("steps", "%d spans are open: further steps are not recorded", len(self._open))
            return
        self._open[span.get_span_context().span_id] = opened = _Open(run, span, view.span_id, is_run=False)
        self._tap_events(opened)
        self._record_step(view, run)
        if is_model_call(view.attributes):
            self._late.prepare()

    def _forget_left_open(self) -> None:
        """Steps that were never ended, of runs that have."""
        for span_id, opened in list(self._open.items()):
            if not opened.is_run and opened.run.ended:
                self._open.pop(span_id, None)

    def _is_run(self, span: Span, *, is_root: bool) -> bool:
        if is_root and self.config.runs == "root":
            return True
        attributes = attributes_of(span)
        return names.is_marked(attributes) or (self.config.runs != "marked" and names.is_agent_invocation(attributes))

    def _begin_run(
        self,
        span: Span,
        view: SpanView,
        context: otel_context.Context | None,
        above: ActiveRun | None,
        order: StartParameters | None,
    ) -> ActiveRun:
        event_id = span_event_id(view.trace_id, view.span_id)
        run = ActiveRun(
            run_id="",
            event_id=event_id,
            trace_id=view.trace_id,
            span_id=view.span_id,
            start_ns=view.start_ns,
            usage=UsageAccumulator(),
        )
        wanted = view.attributes.get(names.RUN_ID)
        if order is not None:
            wanted, run.settings, run.extra = order.run_id, order.settings, order.extra
        name = order.agent_name if order is not None else agent_name_of(view)
        self.active.claim(run, wanted=wanted, agent_name=name, token=event_id[:8])
        self.active.mark_recorded_live(event_id)
        run.span, run.handled_at_start = span, sys.exc_info()[1]
        named = own_agent_name(view) is not None
        run.is_agent = named or names.is_agent_work(view.attributes)
        run.takes_child_name = run.is_agent and not named
        self._open[span.get_span_context().span_id] = opened = _Open(run, span, view.span_id, is_run=True)
        self._tap_events(opened)
        self._write_start(run, view, above.run_id if above is not None else self._parent_elsewhere(view, context))
        span.set_attribute(names.RUN_ID, run.run_id)
        view.attributes[names.RUN_ID] = run.run_id
        return run

    def _parent_elsewhere(self, view: SpanView, context: otel_context.Context | None) -> str | None:
        """The run of another process that this one belongs to: by baggage, else by this process's environment."""
        return parent_run_of(context) or (self.config.parent_run_id if view.parent_span_id is None else None)

    def _write_start(self, run: ActiveRun, view: SpanView, parent_run_id: str | None) -> None:
        now_ns = run.next_update_ns(self.recorder.clock.now_ns())
        run.fields = {
            "event_id": run.event_id,
            "run_id": run.run_id,
            "schema_version": SCHEMA_VERSION,
            "created_at": iso_utc(now_ns),
            "updated_at": iso_utc(now_ns),
            "start_time": iso_utc(run.start_ns),
            "status": st.RUNNING,
            "trace_id": run.trace_id,
            "span_id": run.span_id,
            **self._columns(run, view),
        }
        if parent_run_id is not None and parent_run_id != run.run_id:
            run.fields.setdefault("parent_run_id", parent_run_id)
        self.recorder.record_run(run.fields)

    def _columns(self, run: ActiveRun, view: SpanView) -> dict[str, Any]:
        """What span, client and surroundings say; as last time when none of them has changed since.

        An attribute that was there at the start stays known when later ones push it out of the span.
        """
        known = run.columns
        if known is not None and known[0] == view.attributes and known[1] is self._around() and not run.usage:
            return known[2]
        problems: list[str] = []
        if view.end_ns is not None:
            run.usage.set_run_total(view)
        used = run.usage.shown()
        told = Overrides(run.settings, run.extra, used, run.child_agent)
        pushed_out = run.attributes.keys() - view.attributes.keys()
        whole = view._replace(attributes={**run.attributes, **view.attributes}) if pushed_out else view
        columns = run_columns(whole, told=told, around=self._around(), problems=problems)
        if problems:
            self.recorder.counters.clamped += len(problems)
            self.recorder.counters.warn("clamped", "run %s: %s", run.run_id, "; ".join(problems))
        if used and view.end_ns is not None:
            run.reported_usage = differing(columns, used)
        run.columns = (view.attributes, self._around(), columns)
        run.attributes = whole.attributes
        return columns

    def _around(self) -> ResourceDefaults:
        return self.recorder.resource_defaults

    def _record_step(self, view: SpanView, run: ActiveRun) -> None:
        self.recorder.record_span(step_members(view, self._around(), event_id=run.event_id, run_id=run.run_id))

    def write_update(self, run: ActiveRun) -> None:
        """Write what the client has set on an open run since its last state."""
        view = view_of(run.span)
        now_ns = run.next_update_ns(self.recorder.clock.now_ns())
        run.fields = {**run.fields, **self._columns(run, view), "updated_at": iso_utc(now_ns)}
        if not run.ended:
            self.recorder.record_run(run.fields)

    # --- events

    def _tap_events(self, opened: _Open) -> None:
        """Shadow the span's `add_event`, so that each event is on disk when it returns."""
        original = opened.live.add_event

        def add_event(name: str, attributes: Any = None, timestamp: int | None = None) -> None:
            original(name, attributes, timestamp)
            self.record_event(opened, name, attributes, timestamp)

        opened.live.add_event = add_event  # type: ignore[method-assign]

    def record_event(self, opened: _Open, name: str, attributes: Any, timestamp: int | None) -> None:
        """Write one event of an open span. Never raises."""
        try:
            run = opened.run
            if type(attributes) is EventPayload:
                payload = attributes.payload
            else:
                payload = clean(dict(attributes), max_bytes=self.config.max_event_bytes) if attributes else None
                if name == "exception" and opened.is_run and attributes:
                    run.exception = dict(attributes)
            self.recorder.record_event(
                {
                    "event_id": run.event_id,
                    "run_id": run.run_id,
                    "event_type": name if type(name) is str else str(name),
                    "timestamp": iso_utc(timestamp or self.recorder.clock.now_ns()),
                    "payload": payload,
                    "trace_id": run.trace_id,
                    "span_id": opened.span_id,
                }
            )
        except Exception as problem:  # the outer edge of add_event
            self.recorder.counters.internal("event", problem)

    def find_open(self, span_id: int) -> _Open | None:
        """The open run or step that a span is; for events that come as log records."""
        return self._open.get(span_id)

    # --- ending

    def _end_step(self, opened: _Open, view: SpanView) -> None:
        run = opened.run
        run.usage.add(view, PRICES)
        if names.PART_OF in view.attributes:
            run.usage.set_run_total(view)
            if run.takes_child_name and run.child_agent is None:
                run.child_agent = own_agent_name(view)
                self._tell_name(run, None)
        self._record_step(view, run)
        if run.ended:
            self._late.write(run)

    def _end_run(self, run: ActiveRun, view: SpanView) -> None:
        interrupted = sys.exc_info()[1]
        if isinstance(interrupted, Exception) or interrupted is run.handled_at_start:
            interrupted = None
        self._write_end(run, self._columns(run, view), self._ending(run, view, interrupted), view.end_ns)

    def _ending(self, run: ActiveRun, view: SpanView, interrupted: BaseException | None) -> Ending:
        said = view.attributes.get(names.STATUS) if run.status is None else run.status
        if said is None:
            return ending_of(view, run.exception, interrupted)
        if st.canonical_status(said) in (None, st.RUNNING):
            self.recorder.counters.warn("status", "run %s: unknown status, stored as failed", run.run_id)
        return ending_with_status(said, ending_of(view, run.exception, None))

    def _write_end(self, run: ActiveRun, columns: Mapping[str, Any], ending: Ending, end_ns: int | None) -> None:
        """Write the terminal state. A wall clock that went backwards is replaced by the elapsed time."""
        now_ns = self.recorder.clock.now_ns()
        ends = now_ns if end_ns is None else end_ns
        if ends < run.start_ns:
            ends = run.start_ns + int((self.recorder.monotonic() - run.monotonic) * 1e9)
        kept = {name: value for name, value in run.fields.items() if name not in ("metrics_json", "context_json")}
        told = {name: clean(columns[name]) for name in ("error_summary", "error_details") if name in columns}
        final = ending_fields(ending, start_ns=run.start_ns, end_ns=ends, updated_ns=run.next_update_ns(now_ns))
        run.fields = {**kept, **columns, **final, **told}
        self.active.release(run)
        self.recorder.record_run(run.fields)
        self._metrics.ended(run.fields)
        if run.usage.unpriced:
            self._late.owe(run)

    def close_open_runs(self) -> None:
        """End every run that this process began and left open: what the interpreter's exit does."""
        for run in self.active.mine():
            try:
                ending = Ending(st.FAILED, "the process exited while the run was still open")
                view = view_of(run.span)
                run.usage.set_run_total(view)
                self._write_end(run, self._columns(run, view), ending, None)
            except Exception as problem:  # one run's trouble spares the others
                self.recorder.counters.internal("closing a run", problem)
