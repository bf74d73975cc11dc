"""Runs of spans that were exported without their root, which never ended. Pure.

They are those that a service makes of such spans after a silence (`storage.silence`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from otel_agent_telemetry.clock import iso_utc, parse_iso
from otel_agent_telemetry.last_error import EXCEPTION, error_of_exception, error_of_step
from otel_agent_telemetry.missing_root import SpanBelow, missing_above, missing_root_state
from otel_agent_telemetry.otel.ended_traces import EndedSpan, RuleFor
from otel_agent_telemetry.otel.mapping import agent_name_attribute, service_of
from otel_agent_telemetry.otel.span_work import is_of_coding_agent
from otel_agent_telemetry.otel.spans import SpanView
from otel_agent_telemetry.otel.usage_accumulator import UsageAccumulator
from otel_agent_telemetry.recording.active_runs import ActiveRun
from otel_agent_telemetry.wire import NO_WORK, NO_WORK_OF_AGENT, SPAN_WORK


def missing_roots_of(spans: Iterable[EndedSpan], rule_for: RuleFor) -> Iterator[EndedSpan]:
    """Yield the missing spans above spans of one trace that have no run, each with its run."""
    waiting = {one.view.span_id: one for one in spans}
    tops = missing_above({span_id: one.view.parent_span_id for span_id, one in waiting.items()})
    below: defaultdict[str, list[EndedSpan]] = defaultdict(list)
    for span_id, one in waiting.items():
        below[tops[span_id]].append(one)
    for span_id, found in below.items():
        yield _missing(span_id, found, rule_for)


def _missing(span_id: str, below: list[EndedSpan], rule_for: RuleFor) -> EndedSpan:
    """Return the span that is missing above some spans, with the run that stands for it."""
    view = below[0].view
    known = [_known_of(one.view) for one in below]
    state = missing_root_state(view.trace_id, span_id, known, last_error=_last_error(below))
    work = NO_WORK_OF_AGENT if is_of_coding_agent(view.resource) else NO_WORK
    start_ns, end_ns = parse_iso(state["start_time"]), parse_iso(state["end_time"])
    own = SpanView(
        **{**view._asdict(), "name": state["job_type"], "span_id": span_id, "parent_span_id": None, "attributes": {}},
    )._replace(start_ns=start_ns, end_ns=end_ns)
    one = EndedSpan(None, own, rule_for(own), may_be_run=True)
    one.state = {**state, SPAN_WORK: work}
    one.run = ActiveRun(state["event_id"], view.trace_id, span_id, start_ns, UsageAccumulator())
    one.run.agent_name, one.run.run_id = state["agent_name"], state["run_id"]
    return one


def _known_of(view: SpanView) -> SpanBelow:
    """Return what the state of such a run is made from."""
    started, ended = iso_utc(view.start_ns), iso_utc(view.end_ns or view.start_ns)
    return SpanBelow(
        started, view.span_id, view.name, ended, agent_name_attribute(view.attributes), service_of(view.resource)
    )


def _last_error(below: Iterable[EndedSpan]) -> str:
    """Return the last error that these spans and their events name; empty where none does."""
    found = [
        (one.view.end_ns or 0, error_of_step(one.view.status, one.view.status_message, one.view.attributes))
        for one in below
    ]
    events = (event for one in below if one.span is not None for event in one.span.events)
    found += (
        (event.timestamp, error_of_exception(event.attributes or {})) for event in events if event.name == EXCEPTION
    )
    return max((error for error in found if error[1]), default=(0, ""))[1]
