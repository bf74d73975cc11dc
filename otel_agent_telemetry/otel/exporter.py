"""The exporter door: for pipelines that hand us spans after their end.

`AgentRunSpanExporter()` needs no arguments, as an entry point requires. What a processor
of ours has recorded live in this process is left alone; everything else is recorded from
the ended span: less than live recording (128 events at most, nothing of a killed process),
but the same row, because ids come from the span.

Spans are recorded when the spans above them have ended too (`ended_traces`): a run and its
steps when its root arrives. What waits for a parent that does not come is recorded at
`force_flush` and `shutdown`, agents as runs of their own. The rest becomes at `shutdown` the run
of the span that never ended (`missing_root`): before that it may still end, and after it no
exporter gets it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.last_error import EXCEPTION
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.content import ContentRule, rule_of
from otel_agent_telemetry.otel.content_choice import around_of
from otel_agent_telemetry.otel.ended_spans import ended_run, step_members
from otel_agent_telemetry.otel.ended_traces import EndedSpan, EndedTraces
from otel_agent_telemetry.otel.live_span import opened_of
from otel_agent_telemetry.otel.mapping import agent_name_of
from otel_agent_telemetry.otel.missing_roots import missing_roots_of
from otel_agent_telemetry.otel.span_lines import SpanLines
from otel_agent_telemetry.otel.span_work import span_work_of
from otel_agent_telemetry.otel.spans import SpanView, announced_by, view_of
from otel_agent_telemetry.otel.usage_accumulator import UsageAccumulator
from otel_agent_telemetry.recording.active_runs import ActiveRun
from otel_agent_telemetry.recording.recorder import Recorder
from otel_agent_telemetry.redaction import clean, kept_name, mask_columns
from otel_agent_telemetry.run_id import span_event_id
from otel_agent_telemetry.usage import USAGE_KEY, Usage
from otel_agent_telemetry.wire import SPAN_WORK, dumps_text

_STATE_STEP_NS: Final = 2_000


class _EndedSpanWriter:
    """Records what no processor of this process has recorded live."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._traces = EndedTraces(recorder.config.runs)
        self._lines = recorder.component(SpanLines)
        self._guard = threading.Lock()  # an application may export from a thread of its own

    def write(self, spans: Sequence[ReadableSpan]) -> None:
        """Record what can be placed of these spans, and of those that waited for them."""
        with self._guard:
            new = [(span, view_of(span)) for span in spans if not self._is_live(span)]
            new = [(span, view) for span, view in new if announced_by(view) is view]  # what is announced comes itself
            self._write_settled(self._traces.add(new, self._rule_of))
            for trace in self._traces.overflowing():
                self._write_settled([trace], all_of_them=True)
                self._traces.forget(trace)

    def write_waiting(self) -> None:
        """Record what waits for spans above it as if those never came."""
        with self._guard:
            self._write_settled(self._traces.traces(), all_of_them=True)

    def write_unended(self) -> None:
        """Record what waits for a span that is never ended as runs of their own, each for such a span."""
        with self._guard:
            for trace in self._traces.traces():
                for one in missing_roots_of(self._traces.unplaced(trace), self._rule_of):
                    self._traces.add_missing(one)
            self._write_settled(self._traces.traces(), all_of_them=True)

    def _rule_of(self, view: SpanView) -> ContentRule:
        """Return what is message content in a span."""
        return rule_of(around_of(self._recorder.resource_defaults, view.resource, view.attributes))

    def _is_live(self, span: ReadableSpan) -> bool:
        """Return whether a processor of ours has recorded a span live; a span of another form is known by its ids."""
        opened = opened_of(span)
        if opened is not None and opened.sink is self._lines:
            return True
        context, start_ns = span.get_span_context(), span.start_time
        if context is None or start_ns is None:
            return False
        event_id = span_event_id(f"{context.trace_id:032x}", f"{context.span_id:016x}", start_ns)
        return self._recorder.active.recorded_live(event_id)

    def _write_settled(self, traces: Iterable[str], *, all_of_them: bool = False) -> None:
        """Write the runs and steps among these traces whose place is known now."""
        for one in self._traces.settled(traces, all_of_them=all_of_them):
            if one.run is not None:
                self._write_run(one, one.run)
            elif one.written is None and one.run_above is not None and one.run_above.run is not None:
                self._write_step(one, one.run_above.run)

    def _write_run(self, one: EndedSpan, run: ActiveRun) -> None:
        """Record a run with what it and its steps used; again when that, its parent or its name has changed."""
        is_new = not run.run_id
        if is_new:
            wanted = one.view.attributes.get(names.RUN_ID)
            self._recorder.active.claim(run, wanted=wanted, agent_name=run.agent_name, token=run.event_id[:8])
            # Claimed and let go at once: the id is checked against the open runs of this process, but the run has
            # ended.
            self._recorder.active.release(run)
        fields = self._fields_of(one, run)
        if fields == one.written:
            return
        if one.written is not None:
            # The row already has a state with an end: only a later `updated_at` makes this one win.
            run.updated_ns += _STATE_STEP_NS
        else:
            run.updated_ns = max(one.view.end_ns or 0, one.view.start_ns)
        one.written = fields
        self._recorder.record_run({**fields, "updated_at": iso_utc(run.updated_ns)})
        if is_new:
            self._write_events(one, run)

    def _fields_of(self, one: EndedSpan, run: ActiveRun) -> Fields:
        """Return the columns of a run, with what it and its steps used."""
        usage = UsageAccumulator()
        usage.set_run_total(one.view)
        usage.add(self._traces.used_by(one))
        if one.state is not None:
            return self._fields_of_missing(one.state, usage.shown())
        events = one.span.events if one.span is not None else ()
        fields = ended_run(
            one.view,
            run_id=run.run_id,
            exceptions=[event.attributes for event in events if event.name == EXCEPTION],
            around=self._recorder.resource_defaults,
            problems=[],
            used=usage.shown(),
            left_out=self._traces.left_out_of(one),
            agent_name=agent_name_of(one.view, run.child_agent),
        )
        above = one.run_above.run if one.run_above is not None else None
        if above is not None and above.run_id != run.run_id:
            # What the span names itself stands: a parent in another trace, for example.
            fields.setdefault("parent_run_id", above.run_id)
        if work := span_work_of(one.view, has_events=bool(events)):
            fields[SPAN_WORK] = work
        return fields

    def _fields_of_missing(self, state: Fields, used: Usage) -> Fields:
        """Return the columns of a run whose own span is missing."""
        columns = mask_columns({**self._recorder.resource_defaults.columns, **state})
        return {**columns, "metrics_json": dumps_text({USAGE_KEY: used})} if used else columns

    def _write_step(self, one: EndedSpan, run: ActiveRun) -> None:
        """Write a step once, with its events, and let its attributes go."""
        members = step_members(one.view, self._recorder.resource_defaults, event_id=run.event_id, run_id=run.run_id)
        self._recorder.record_span(members)
        self._write_events(one, run)
        one.written = True
        one.forget()

    def _write_events(self, one: EndedSpan, run: ActiveRun) -> None:
        """Write the events of a span as those of its run, content left out as on the live path."""
        rule = self._rule_of(one.view)
        for event in one.span.events if one.span is not None else ():
            kept, _ = rule.keep_of_event(event.name, event.attributes or {})
            self._recorder.record_event(
                {
                    "event_id": run.event_id,
                    "run_id": run.run_id,
                    "event_type": kept_name(event.name),
                    "timestamp": iso_utc(event.timestamp),
                    "payload": clean(dict(kept), max_bytes=self._recorder.config.max_event_bytes),
                    "trace_id": one.view.trace_id,
                    "span_id": one.view.span_id,
                }
            )


class AgentRunSpanExporter(SpanExporter):
    """Records ended spans as runs, events and steps. Returns FAILURE when it broke itself, or was shut down.

    A copy is the object itself; it cannot be pickled.

        provider.add_span_processor(BatchSpanProcessor(AgentRunSpanExporter()))

    `config`: default `TelemetryConfig.from_env()`; `recorder`: default the process's recorder of that configuration.
    Where both run in one process, spans that `AgentRunSpanProcessor` records are left to it. Safe under threads.
    """

    def __init__(self, config: TelemetryConfig | None = None, *, recorder: Recorder | None = None) -> None:
        self.recorder = recorder or Recorder.shared(config or TelemetryConfig.from_env())
        self.recorder.active.exporter_present = True
        self._writer = _EndedSpanWriter(self.recorder)
        self._is_shut_down = False

    def __copy__(self) -> AgentRunSpanExporter:
        return self

    def __deepcopy__(self, _memo: object) -> AgentRunSpanExporter:
        return self

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Record a batch of ended spans. On return the lines of those with a known place survive the process.

        After `shutdown` nothing is recorded and the answer is FAILURE, as OpenTelemetry specifies.

        Waits for no network and no database; it blocks for the appends, and for another thread that exports. Spans
        whose parents have not come yet wait in memory, in a bounded number.
        """
        if self._is_shut_down:
            return SpanExportResult.FAILURE
        try:
            self._writer.write(spans)
        except Exception as problem:  # the outer edge of a batch processor's thread
            self.recorder.counters.internal("export", problem)
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Deliver what can be delivered within the exit timeout. Idempotent.

        Spans that still wait for one that has not ended become a run first.

        Never raises. Blocks up to `TELEMETRY_EXIT_TIMEOUT_S`; what is left waits in the buffer.
        """
        # First, so that an export of another thread does not add spans that nobody would write any more.
        self._is_shut_down = True
        self._guarded(self._writer.write_waiting)
        self._guarded(self._writer.write_unended)
        self.recorder.close()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until what was recorded has reached its target; False when the time ran out.

        Blocks up to `timeout_millis` milliseconds. Never raises.
        """
        self._guarded(self._writer.write_waiting)
        return self.recorder.flush(timeout_millis / 1000)

    def _guarded(self, write: Callable[[], None]) -> None:
        """Run one of the writers; what it raises is counted, and the provider goes on."""
        try:
            write()
        except Exception as problem:  # the outer edge of flush and shutdown
            self.recorder.counters.internal("export", problem)
