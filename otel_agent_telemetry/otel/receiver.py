"""From an OTLP trace request to runs and the spans of their trees. Pure.

The same request gives the same records, so a sender may repeat it; a span that breaks a
rule of OTLP (no ids, ids of a wrong length) is refused with the reason and spares its
neighbours. Attributes are untrusted: values are bounded and masked as everywhere.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.last_error import EXCEPTION
from otel_agent_telemetry.model import RunEvent, RunRecord, RunSpan
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.content import is_listed_content, rule_of
from otel_agent_telemetry.otel.ended_spans import ended_run, is_run, step_members
from otel_agent_telemetry.otel.ended_traces import run_of
from otel_agent_telemetry.otel.left_out import sum_of
from otel_agent_telemetry.otel.mapping import agent_name_of, named_agent, own_agent_name, repeats, service_of
from otel_agent_telemetry.otel.span_work import is_of_coding_agent, span_work_of
from otel_agent_telemetry.otel.spans import SpanView, announced_by
from otel_agent_telemetry.otel.usage import own_usage, usage_of_step
from otel_agent_telemetry.recording.active_runs import ActiveRun, ResourceDefaults
from otel_agent_telemetry.redaction import clean, kept_name
from otel_agent_telemetry.run_id import check_custom_run_id, generate_run_id, span_event_id
from otel_agent_telemetry.storage.steps import Agent
from otel_agent_telemetry.storage.traces import SpanNode
from otel_agent_telemetry.wire import NO_WORK, NO_WORK_OF_AGENT

_log = logging.getLogger(__name__)

_KINDS: Final = ("internal", "internal", "server", "client", "producer", "consumer")
_STATUSES: Final = ("unset", "ok", "error")
_TRACE_ID: Final = 16
_SPAN_ID: Final = 8
_LATEST_START_NS: Final = 2**63 - 1  # in the year 2262: what a signed column holds
_MAX_REASONS: Final = 5


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """A span as it is stored, and the run that it is, if it is one."""

    node: SpanNode
    record: RunRecord | None = None


@dataclass(slots=True)
class Received:
    """What a request holds. `refused` spans are counted, with the first few reasons."""

    spans: list[ReceivedSpan] = field(default_factory=list)
    refused: int = 0
    reasons: list[str] = field(default_factory=list)

    def refuse(self, reason: str) -> None:
        """Count a span that cannot be taken, with the reason."""
        self.refused += 1
        self.warn(reason)

    def warn(self, reason: str) -> None:
        """Note something that the sender should know, of a span that may be taken all the same."""
        if reason not in self.reasons and len(self.reasons) < _MAX_REASONS:
            self.reasons.append(reason)


def received_of(request: ExportTraceServiceRequest, *, runs: str, around: ResourceDefaults) -> Received:
    """Return the runs and spans of a request. `runs`: which spans are runs, `root`, `agents` or `marked`."""
    received = Received()
    for group in request.resource_spans:
        views = list(_views_of(group, received))
        starts = _starts_of(view for view, _ in views)
        left_out = _LeftOutByRun(views, runs, around)
        for span_id in _own_ancestors(views):
            received.warn(f"span {span_id}: is its own ancestor, and has no root")
        is_agents = bool(views) and is_of_coding_agent(views[0][0].resource)
        for view, span in views:
            try:
                _take(
                    *(received, view, span),
                    runs=runs,
                    around=around,
                    starts=starts,
                    left_out=left_out,
                    is_agents=is_agents,
                )
            except RecordError as problem:
                received.refuse(f"span {view.span_id}: {problem}")
            except Exception as problem:  # a bug of ours costs this span, not its neighbours
                _log.error("a received span cannot be understood: %s", type(problem).__name__, exc_info=problem)
                received.refuse(f"span {view.span_id}: cannot be understood")
    return received


def _own_ancestors(views: Sequence[tuple[SpanView, Span]]) -> Iterator[str]:
    """Yield the ids of spans that lead back to themselves by their parents, one of each circle."""
    parents = {(view.trace_id, view.span_id): (view.trace_id, view.parent_span_id) for view, _ in views}
    passed: set[tuple[str, str | None]] = set()
    for start in parents:
        way: set[tuple[str, str | None]] = set()
        at: tuple[str, str | None] = start
        while at in parents and at not in passed:
            passed.add(at)
            way.add(at)
            at = parents[at]
        if at in way:
            yield str(at[1])


def _views_of(group: ResourceSpans, received: Received) -> Iterator[tuple[SpanView, Span]]:
    resource = _values_of(group.resource.attributes)
    for scope in group.scope_spans:
        for span in scope.spans:
            if (reason := _rule_broken(span)) is None:
                view = _view_of(span, resource)
                yield announced_by(view), span
            else:
                received.refuse(reason)


_Starts = Mapping[tuple[str, str | None], Sequence[int]]
"""`(trace id, span id)` → when the spans with these ids began that one sender sent together."""


def _starts_of(views: Iterable[SpanView]) -> _Starts:
    starts: defaultdict[tuple[str, str | None], list[int]] = defaultdict(list)
    for view in views:
        starts[view.trace_id, view.span_id].append(view.start_ns)
    return starts


def _parent_start(view: SpanView, starts: _Starts) -> str | None:
    """Return when a span's parent began, None when its sender did not send it along.

    Ids repeat where applications seed `random`; what comes from one sender belongs together.
    """
    known = starts.get((view.trace_id, view.parent_span_id))
    if not known:
        return None
    earlier = [start_ns for start_ns in known if start_ns <= view.start_ns]
    return iso_utc(max(earlier) if earlier else min(known))


def _rule_broken(span: Span) -> str | None:
    if len(span.trace_id) != _TRACE_ID or not any(span.trace_id):
        return "trace_id must be 16 bytes that are not all zero"
    if len(span.span_id) != _SPAN_ID or not any(span.span_id):
        return "span_id must be 8 bytes that are not all zero"
    if span.parent_span_id and len(span.parent_span_id) != _SPAN_ID:
        return "parent_span_id must be empty or 8 bytes"
    return None


def _view_of(span: Span, resource: dict[str, Any]) -> SpanView:
    parent = span.parent_span_id.hex() if any(span.parent_span_id) else None
    start_ns = min(span.start_time_unix_nano or span.end_time_unix_nano, _LATEST_START_NS)
    return SpanView(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=parent,
        kind=_KINDS[span.kind] if 0 <= span.kind < len(_KINDS) else _KINDS[0],
        start_ns=start_ns,
        end_ns=max(span.end_time_unix_nano, start_ns) if span.end_time_unix_nano else None,
        status=_STATUSES[span.status.code] if 0 <= span.status.code < len(_STATUSES) else _STATUSES[0],
        status_message=span.status.message or None,
        attributes=_values_of(span.attributes),
        resource=resource,
    )


class _LeftOutByRun:
    """What is left out, as message content, of the steps and events that come in one request with their run."""

    def __init__(self, spans: Sequence[tuple[SpanView, Span]], runs: str, around: ResourceDefaults) -> None:
        self._rule = rule_of(around)
        self._counts: defaultdict[tuple[str, str | None], list[Mapping[str, int]]] = defaultdict(list)
        if self._rule.capture:
            return
        parents = {(view.trace_id, view.span_id): view.parent_span_id for view, _ in spans}
        found = _runs_among((view for view, _ in spans), parents, runs)
        for view, span in spans:
            ids = (view.trace_id, view.span_id)
            left_out = list(self._left_out_of(view, span, is_step=ids not in found))
            if left_out and (run := _run_above(ids, parents, found)) is not None:
                self._counts[run] += left_out

    def _left_out_of(self, view: SpanView, span: Span, *, is_step: bool) -> Iterator[Mapping[str, int]]:
        if is_step and (left_out := self._rule.keep(view.attributes)[1]):
            yield left_out
        for event in span.events:
            if self._rule.ruled_events[event.name] or any(is_listed_content(pair.key) for pair in event.attributes):
                yield self._rule.keep_of_event(event.name, _values_of(event.attributes))[1]

    def of(self, view: SpanView) -> Mapping[str, int]:
        """Return the counts of a run by name."""
        return sum_of(self._counts.get((view.trace_id, view.span_id), ()))


_Ids = tuple[str, str]
"""Trace id and span id."""


def _runs_among(views: Iterable[SpanView], parents: Mapping[_Ids, str | None], runs: str) -> dict[_Ids, ActiveRun]:
    """Return the runs among the spans of a request, without agents that only repeat the run around them."""
    found: dict[_Ids, ActiveRun] = {}
    for view in sorted((view for view in views if is_run(view, runs)), key=lambda view: view.start_ns):
        ids = (view.trace_id, view.span_id)
        above = _run_above(ids, parents, found)
        if above is None or not repeats(view, found[above]):
            found[ids] = run_of(view)
    return found


def _run_above(ids: _Ids, parents: Mapping[_Ids, str | None], runs: Mapping[_Ids, ActiveRun]) -> _Ids | None:
    """Return the ids of the nearest run at or above a span; None where the request has none."""
    at: _Ids | None = ids
    for _ in range(len(parents) + 1):  # bounded: spans may be their own ancestors
        if at is None or at in runs:
            return at
        parent = parents.get(at)
        at = (ids[0], parent) if parent is not None else None
    return None


def _take(
    received: Received,
    view: SpanView,
    span: Span,
    *,
    runs: str,
    around: ResourceDefaults,
    starts: _Starts,
    left_out: _LeftOutByRun,
    is_agents: bool,
) -> None:
    run = is_run(view, runs)
    usage = own_usage(view) if run else usage_of_step(view)
    step = RunSpan(**{"parent_span_id": None, **step_members(view, around, event_id="", run_id="")})
    agent = _agent_of(view) if run else None
    work = span_work_of(view, has_events=bool(span.events)) if run else None
    may_be_step = run and view.parent_span_id is not None and not names.is_marked(view.attributes)
    node = SpanNode(
        step,
        run,
        usage,
        _events_of(view, span, around),
        view.start_ns,
        _parent_start(view, starts),
        agent,
        usage_of_step(view) if may_be_step else None,
        service_of(view),
        is_idle=work in (NO_WORK, NO_WORK_OF_AGENT),
        is_from_agent=agent is not None or "model_calls" in usage or is_agents,
    )
    received.spans.append(ReceivedSpan(node, _record_of(view, span, around, left_out.of(view)) if run else None))


def _agent_of(view: SpanView) -> Agent | None:
    """Return what a run's span says of its agent; None for a run that is no agent's doing."""
    is_named = own_agent_name(view) is not None
    if not is_named and not names.is_agent_work(view.attributes, view.name):
        return None
    return Agent(named_agent(view), agent_name_of(view), takes_child_name=not is_named)


def _record_of(view: SpanView, span: Span, around: ResourceDefaults, left_out: Mapping[str, int]) -> RunRecord:
    event_id = span_event_id(view.trace_id, view.span_id, view.start_ns)
    wanted = view.attributes.get(names.RUN_ID)
    if check_custom_run_id(wanted) is not None:
        wanted = generate_run_id(agent_name_of(view), at_ns=view.start_ns, token=event_id[:8])
    exceptions = [_values_of(event.attributes) for event in span.events if event.name == EXCEPTION]
    run = ended_run(view, run_id=str(wanted), exceptions=exceptions, around=around, problems=[], left_out=left_out)
    return RunRecord.from_fields(run)


def _events_of(view: SpanView, span: Span, around: ResourceDefaults) -> tuple[RunEvent, ...]:
    return tuple(
        RunEvent(
            event_id="",
            run_id="",
            event_type=kept_name(names.event_name_of(event.name, _values_of(event.attributes)) or "event"),
            timestamp=iso_utc(event.time_unix_nano or view.start_ns),
            payload=_payload_of(event.name, _values_of(event.attributes), around),
            trace_id=view.trace_id,
            span_id=view.span_id,
        )
        for event in span.events
    )


def _payload_of(name: str, values: Mapping[str, Any], around: ResourceDefaults) -> Any:
    return clean(dict(rule_of(around).keep_of_event(name, values)[0]), max_bytes=around.max_bytes)


def _values_of(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value_of(pair.value) for pair in attributes}


def _value_of(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value_of(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _values_of(value.kvlist_value.values)
    return getattr(value, kind)
