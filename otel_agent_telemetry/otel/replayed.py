"""Runs, events and steps from spans that have ended already, in any order.

A span belongs to the nearest run above it in the same batch. A step whose run is in
another batch is known by its trace alone and is left out: live recording is what steps
are for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan

from otel_agent_telemetry.active import ActiveRun
from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.event_id import span_event_id
from otel_agent_telemetry.otel import attributes as names
from otel_agent_telemetry.otel.ended import EXCEPTION, ended_run, is_run
from otel_agent_telemetry.otel.mapping import agent_name_of
from otel_agent_telemetry.otel.pricing import PRICES
from otel_agent_telemetry.otel.spans import SpanView, view_of
from otel_agent_telemetry.otel.steps import step_members
from otel_agent_telemetry.otel.tally import RunTally
from otel_agent_telemetry.recorder import Recorder
from otel_agent_telemetry.redaction import clean
from otel_agent_telemetry.usage import Usage


def record_ended_spans(recorder: Recorder, spans: Sequence[ReadableSpan]) -> None:
    """Record what no processor of this process has recorded live.

    Blocks while the price list is loaded, when the first model call comes.
    """
    views = sorted(((span, view_of(span)) for span in spans), key=_started)  # a parent starts before its children
    batch = _Batch(recorder, [view for _, view in views])
    runs: dict[str, ActiveRun] = {}
    for span, view in views:
        if view.span_id in batch.runs:
            above = batch.run_above(view.parent_span_id)
            runs[view.span_id] = _record_run(recorder, span, view, runs.get(above or ""), batch.used_by(view))
    for span, view in views:
        run = runs.get(batch.run_above(view.span_id) or "")
        if run is not None:
            if view.span_id not in runs:
                step = step_members(view, recorder.surroundings, event_id=run.event_id, run_id=run.run_id)
                recorder.record_span(step)
            _record_events(recorder, span, view, run)


def _started(pair: tuple[ReadableSpan, SpanView]) -> int:
    return pair[1].start_ns


class _Batch:
    """Which spans of a batch are runs, which run the others belong to, and what they used."""

    def __init__(self, recorder: Recorder, views: Sequence[SpanView]) -> None:
        self._parents = {view.span_id: view.parent_span_id for view in views}
        self.runs = {
            view.span_id
            for view in views
            if is_run(view, recorder.config.runs)
            and not recorder.active.was_live(span_event_id(view.trace_id, view.span_id))
        }
        self._tallies: defaultdict[str, RunTally] = defaultdict(RunTally)
        for view in views:
            above = self.run_above(view.span_id)
            if above is not None and above != view.span_id:
                self._tallies[above].add(view, PRICES)

    def run_above(self, span_id: str | None) -> str | None:
        """The nearest run at or above a span."""
        at = span_id
        for _ in range(len(self._parents) + 1):
            if at is None or at in self.runs:
                return at
            at = self._parents.get(at)
        return None

    def used_by(self, view: SpanView) -> Usage:
        """What a run and its steps used."""
        tally = self._tallies[view.span_id]
        if tally.unpriced:
            PRICES.load()
            tally.price(PRICES)
        tally.tell(view)
        return tally.shown()


def _record_run(
    recorder: Recorder, span: ReadableSpan, view: SpanView, above: ActiveRun | None, used: Usage
) -> ActiveRun:
    event_id = span_event_id(view.trace_id, view.span_id)
    run = ActiveRun(run_id="", event_id=event_id, trace_id=view.trace_id, span_id=view.span_id, start_ns=view.start_ns)
    agent = agent_name_of(view)
    recorder.active.claim(run, wanted=view.attributes.get(names.RUN_ID), agent_name=agent, token=event_id[:8])
    recorder.active.release(run)
    fields = ended_run(
        view,
        run_id=run.run_id,
        exceptions=[event.attributes for event in span.events if event.name == EXCEPTION],
        around=recorder.surroundings,
        problems=[],
        used=used,
    )
    if above is not None:
        fields.setdefault("parent_run_id", above.run_id)
    recorder.record_run(fields)
    return run


def _record_events(recorder: Recorder, span: ReadableSpan, view: SpanView, run: ActiveRun) -> None:
    for event in span.events:
        recorder.record_event(
            {
                "event_id": run.event_id,
                "run_id": run.run_id,
                "event_type": event.name,
                "timestamp": iso_utc(event.timestamp),
                "payload": clean(dict(event.attributes or {}), max_bytes=recorder.config.max_event_bytes),
                "trace_id": view.trace_id,
                "span_id": view.span_id,
            }
        )
