"""The exporter door: for pipelines that hand us spans after their end.

`AgentRunSpanExporter()` needs no arguments, as an entry point requires. What a processor
of ours has recorded live in this process is left alone; everything else is recorded from
the ended span: less than live recording (128 events at most, nothing of a killed process),
but the same row, because ids come from the span. Where no processor saw them begin, an agent's
span that only repeats the run around it is a run of its own.

Runs, events and steps from spans that have ended already, in any order.

A span belongs to the nearest run above it in the same batch. A step whose run is in
another batch is known by its trace alone and is left out: live recording is what steps
are for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.content import rule_of
from otel_agent_telemetry.otel.ended_spans import EXCEPTION, ended_run, is_run, step_members
from otel_agent_telemetry.otel.left_out import sum_of
from otel_agent_telemetry.otel.mapping import agent_name_of
from otel_agent_telemetry.otel.spans import SpanView, view_of
from otel_agent_telemetry.otel.usage_accumulator import UsageAccumulator
from otel_agent_telemetry.recording.active_runs import ActiveRun
from otel_agent_telemetry.recording.recorder import Recorder
from otel_agent_telemetry.redaction import clean
from otel_agent_telemetry.run_id import span_event_id
from otel_agent_telemetry.usage import Usage


def record_ended_spans(recorder: Recorder, spans: Sequence[ReadableSpan]) -> None:
    """Record what no processor of this process has recorded live."""
    views = sorted(((span, view_of(span)) for span in spans), key=_started)  # a parent starts before its children
    batch = _Batch(recorder, views)
    runs: dict[int, ActiveRun] = {}
    for place, (span, view) in enumerate(views):
        if place in batch.runs:
            above = runs.get(batch.run_above(batch.parents[place]))
            runs[place] = _record_run(recorder, span, view, above, batch.used_by(place), batch.left_out_of(place))
    for place, (span, view) in enumerate(views):
        run = runs.get(batch.run_above(place))
        if run is not None:
            if place not in runs:
                step = step_members(view, recorder.resource_defaults, event_id=run.event_id, run_id=run.run_id)
                recorder.record_span(step)
            _record_events(recorder, span, view, run)


def _started(pair: tuple[ReadableSpan, SpanView]) -> int:
    return pair[1].start_ns


_NOWHERE: Final = -1


class _Batch:
    """Which spans of a batch are runs, which run the others belong to, what they used and what is left out of them.

    Spans are named by their place in the batch, in order of their start: ids repeat where an
    application seeds `random`. Of several spans with a parent's ids the parent is the last one
    that had begun.
    """

    def __init__(self, recorder: Recorder, spans: Sequence[tuple[ReadableSpan, SpanView]]) -> None:
        self._views = views = [view for _, view in spans]
        self._rule = rule_of(recorder.resource_defaults)
        self.parents = self._parents()
        self.runs = {
            place
            for place, view in enumerate(views)
            if is_run(view, recorder.config.runs)
            and not recorder.active.recorded_live(span_event_id(view.trace_id, view.span_id, view.start_ns))
        }
        self._usage_by_run: defaultdict[int, UsageAccumulator] = defaultdict(UsageAccumulator)
        for place, view in enumerate(views):
            above = self.run_above(place)
            if above not in (_NOWHERE, place):
                self._usage_by_run[above].add(view)
        self._left_out_by_run: defaultdict[int, list[Mapping[str, int]]] = defaultdict(list)
        for place, (span, view) in enumerate(spans):
            above = self.run_above(place)
            if above != _NOWHERE:
                self._left_out_by_run[above] += self._left_out_of_span(span, view, is_step=place != above)

    def _left_out_of_span(self, span: ReadableSpan, view: SpanView, *, is_step: bool) -> Iterator[Mapping[str, int]]:
        """Yield what is left out of a span's events, and of its own attributes if it is a step."""
        if is_step:
            yield self._rule.keep(view.attributes)[1]
        for event in span.events:
            yield self._rule.keep_of_event(event.name, event.attributes or {})[1]

    def left_out_of(self, place: int) -> Mapping[str, int]:
        """Return what is left out of a run's steps and events."""
        return sum_of(self._left_out_by_run[place])

    def _parents(self) -> list[int]:
        places: defaultdict[tuple[str, str | None], list[int]] = defaultdict(list)
        for place, view in enumerate(self._views):
            places[view.trace_id, view.span_id].append(place)
        return [
            self._parent_of(place, places.get((view.trace_id, view.parent_span_id), ()))
            for place, view in enumerate(self._views)
        ]

    def _parent_of(self, place: int, known: Sequence[int]) -> int:
        """Return which of the spans with the parent's ids is the parent."""
        view = self._views[place]
        # A child may not begin before its parent; where clocks disagree, the first one is taken all the same.
        earlier = [one for one in known if self._views[one].start_ns <= view.start_ns and one != place]
        return earlier[-1] if earlier else known[0] if known else _NOWHERE

    def run_above(self, place: int) -> int:
        """Return the place of the nearest run at or above a span; -1 where the batch has none."""
        at = place
        # Bounded: where ids repeat, parents can form a circle, and the exporter must not hang on it.
        for _ in range(len(self.parents) + 1):
            if at == _NOWHERE or at in self.runs:
                return at
            at = self.parents[at]
        return _NOWHERE

    def used_by(self, place: int) -> Usage:
        """Return what a run and its steps used."""
        usage = self._usage_by_run[place]
        usage.set_run_total(self._views[place])
        return usage.shown()


def _record_run(
    recorder: Recorder,
    span: ReadableSpan,
    view: SpanView,
    above: ActiveRun | None,
    used: Usage,
    left_out: Mapping[str, int],
) -> ActiveRun:
    event_id = span_event_id(view.trace_id, view.span_id, view.start_ns)
    run = ActiveRun(event_id, view.trace_id, view.span_id, view.start_ns, UsageAccumulator())
    agent = agent_name_of(view)
    recorder.active.claim(run, wanted=view.attributes.get(names.RUN_ID), agent_name=agent, token=event_id[:8])
    recorder.active.release(run)
    fields = ended_run(
        view,
        run_id=run.run_id,
        exceptions=[event.attributes for event in span.events if event.name == EXCEPTION],
        around=recorder.resource_defaults,
        problems=[],
        used=used,
        left_out=left_out,
    )
    if above is not None:
        fields.setdefault("parent_run_id", above.run_id)
    recorder.record_run(fields)
    return run


def _record_events(recorder: Recorder, span: ReadableSpan, view: SpanView, run: ActiveRun) -> None:
    rule = rule_of(recorder.resource_defaults)
    for event in span.events:
        kept, _ = rule.keep_of_event(event.name, event.attributes or {})
        recorder.record_event(
            {
                "event_id": run.event_id,
                "run_id": run.run_id,
                "event_type": event.name,
                "timestamp": iso_utc(event.timestamp),
                "payload": clean(dict(kept), max_bytes=recorder.config.max_event_bytes),
                "trace_id": view.trace_id,
                "span_id": view.span_id,
            }
        )


class AgentRunSpanExporter(SpanExporter):
    """Records ended spans as runs, events and steps. Returns FAILURE when it broke itself, or was shut down.

    A copy is the object itself; it cannot be pickled.
    """

    def __init__(self, config: TelemetryConfig | None = None, *, recorder: Recorder | None = None) -> None:
        self.recorder = recorder or Recorder.shared(config or TelemetryConfig.from_env())
        self.recorder.active.exporter_present = True
        self._is_shut_down = False

    def __copy__(self) -> AgentRunSpanExporter:
        return self

    def __deepcopy__(self, _memo: object) -> AgentRunSpanExporter:
        return self

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Record a batch of ended spans. On return their lines survive the death of the process.

        After `shutdown` nothing is recorded and the answer is FAILURE, as OpenTelemetry specifies.
        """
        if self._is_shut_down:
            return SpanExportResult.FAILURE
        try:
            record_ended_spans(self.recorder, spans)
        except Exception as problem:  # the outer edge of a batch processor's thread
            self.recorder.counters.internal("export", problem)
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Deliver what can be delivered within the exit timeout. Idempotent."""
        self._is_shut_down = True
        self.recorder.close()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until what was recorded has reached its target; False when the time ran out."""
        return self.recorder.flush(timeout_millis / 1000)
