"""Runs, events and steps from spans that have ended already, in any order.

A span belongs to the nearest run above it in the same batch. A step whose run is in
another batch is known by its trace alone and is left out: live recording is what steps
are for.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan

from otel_agent_telemetry.active import ActiveRun
from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.event_id import span_event_id
from otel_agent_telemetry.otel import attributes as names
from otel_agent_telemetry.otel.ended import EXCEPTION, ended_run, is_run
from otel_agent_telemetry.otel.mapping import agent_name_of
from otel_agent_telemetry.otel.spans import SpanView, view_of
from otel_agent_telemetry.otel.steps import step_members
from otel_agent_telemetry.recorder import Recorder
from otel_agent_telemetry.redaction import clean


def record_ended_spans(recorder: Recorder, spans: Sequence[ReadableSpan]) -> None:
    """Record what no processor of this process has recorded live."""
    views = [(span, view_of(span)) for span in spans]
    parents = {view.span_id: view.parent_span_id for _, view in views}
    runs: dict[str, ActiveRun] = {}
    for span, view in sorted(views, key=_started):  # a parent starts before its children
        live = recorder.active.was_live(span_event_id(view.trace_id, view.span_id))
        if not live and is_run(view, recorder.config.runs):
            runs[view.span_id] = _record_run(recorder, span, view, _run_above(view, runs, parents))
    for span, view in views:
        run = _run_above(view, runs, parents)
        if run is not None:
            if view.span_id not in runs:
                step = step_members(view, recorder.surroundings, event_id=run.event_id, run_id=run.run_id)
                recorder.record_span(step)
            _record_events(recorder, span, view, run)


def _started(pair: tuple[ReadableSpan, SpanView]) -> int:
    return pair[1].start_ns


def _run_above(view: SpanView, runs: dict[str, ActiveRun], parents: dict[str, str | None]) -> ActiveRun | None:
    at: str | None = view.span_id
    for _ in range(len(parents) + 1):
        if at is None or at in runs:
            break
        at = parents.get(at)
    return runs.get(at) if at is not None else None


def _record_run(recorder: Recorder, span: ReadableSpan, view: SpanView, above: ActiveRun | None) -> ActiveRun:
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
