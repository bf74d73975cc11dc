"""From an OTLP trace request to what is stored of its spans. Pure.

The third of the five stops of a request (`service.otlp_intake` shows all of them): `SpanReceiver.read`
looks at all spans and refuses those that break a rule of OTLP (no ids, ids of a wrong length), with the
reason; `SpanReceiver.nodes_of` makes what is stored of some of them, so that a large request can be
stored in parts. The same request gives the same records, however it is cut, so a sender may repeat
it. Attributes are untrusted: values are bounded and masked as everywhere.

What attribute names mean is worked out once for each tuple of names (`attribute_plan`), as it is for
spans that are recorded live.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.last_error import EXCEPTION
from otel_agent_telemetry.model import RunEvent, RunSpan
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.attribute_plan import AttributePlan, AttributePlans
from otel_agent_telemetry.otel.content import is_listed_content, rule_of
from otel_agent_telemetry.otel.conventions.convention import Kind
from otel_agent_telemetry.otel.ended_spans import ended_run, is_run, step_members
from otel_agent_telemetry.otel.left_out import NOTHING, sum_of
from otel_agent_telemetry.otel.mapping import agent_name_of, named_agent, own_agent_name, service_of
from otel_agent_telemetry.otel.span_work import is_of_coding_agent, span_work_of
from otel_agent_telemetry.otel.spans import SpanView, announced_by
from otel_agent_telemetry.otel.usage import last_call_decides, own_usage, usage_of_kind, usage_of_step
from otel_agent_telemetry.recording.active_runs import ResourceDefaults
from otel_agent_telemetry.redaction import clean, kept_name
from otel_agent_telemetry.run_id import check_custom_run_id, generate_run_id, span_event_id
from otel_agent_telemetry.run_state import checked_state
from otel_agent_telemetry.storage.rollups import Agent
from otel_agent_telemetry.storage.traces import SpanNode
from otel_agent_telemetry.usage import LEFT_OUT, Usage
from otel_agent_telemetry.wire import NO_WORK, NO_WORK_OF_AGENT

_log = logging.getLogger(__name__)

_KINDS: Final = ("internal", "internal", "server", "client", "producer", "consumer")
_STATUSES: Final = ("unset", "ok", "error")
_TRACE_ID: Final = 16
_SPAN_ID: Final = 8
_LATEST_START_NS: Final = 2**63 - 1  # in the year 2262: what a signed column holds
_MAX_REASONS: Final = 5
_IS_AGENTS_WORK: Final = (names.AGENT, names.CHAIN)

_Ids = tuple[bytes, bytes]
"""Trace id and span id."""


@dataclass(frozen=True, slots=True)
class _Sender:
    """What the spans of one resource have in common."""

    resource: dict[str, Any]
    service: str | None
    is_coding_agent: bool
    has_rules: bool
    """Whether the resource is that of a sender with rules of its own (`conventions.sender_of`)."""
    starts: Mapping[_Ids, Sequence[int]]
    """Ids → when the spans with these ids began that it sent together."""


class ReceivedSpan(NamedTuple):
    """A span as it came, and where it comes from."""

    span: Span
    sender: _Sender


_start: Final = attrgetter("span.start_time_unix_nano")


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

    def parts(self, most: int, *, after: int = 0) -> Iterator[list[ReceivedSpan]]:
        """Yield the spans without the first `after`, at most so many at once.

        Where they are more, in order of their start: most runs before what is below them.
        """
        if len(self.spans) > most:
            self.spans.sort(key=_start)
        for start in range(after, len(self.spans), most):
            yield self.spans[start : start + most]


class SpanReceiver:
    """Reads requests by one configuration. Safe under threads.

    `runs`: which spans are runs, `root`, `agents` or `marked`. `around`: what is message content, and
    the bounds of values.
    """

    def __init__(self, *, runs: str, around: ResourceDefaults) -> None:
        self._runs = runs
        self._around = around
        self._rule = rule_of(around)
        self._plans = AttributePlans(self._rule, max_bytes=around.max_bytes)

    def read(self, request: ExportTraceServiceRequest) -> Received:
        """Return the spans of a request, and why others are refused."""
        received = Received()
        for group in request.resource_spans:
            received.spans += _spans_of(group, received)
        return received

    def nodes_of(self, spans: Iterable[ReceivedSpan], received: Received) -> list[SpanNode]:
        """Return what is stored of these spans; one that cannot be understood is refused, and spares its neighbours."""
        nodes = []
        for span, sender in spans:
            try:
                nodes.append(self._node_of(span, sender))
            except RecordError as problem:
                received.refuse(f"span {span.span_id.hex()}: {problem}")
            except Exception as problem:  # a bug of ours costs this span, not its neighbours
                _log.error("a received span cannot be understood: %s", type(problem).__name__, exc_info=problem)
                received.refuse(f"span {span.span_id.hex()}: cannot be understood")
        return nodes

    def _node_of(self, span: Span, sender: _Sender) -> SpanNode:
        view = _view_of(span, sender.resource)
        plan = self._plans[tuple(view.attributes)]
        kind = plan.kind_of(view.attributes, view.name)
        has_rules = sender.has_rules or not names.SENDER_MARKS.isdisjoint(view.attributes)
        decides = has_rules and last_call_decides(view)
        left_out: list[Mapping[str, int]] = []
        events = [self._event_of(event, view, left_out) for event in span.events]
        may_be_run = view.parent_span_id is None or plan.is_marked or kind == names.AGENT
        if may_be_run and is_run(view, self._runs):
            own_name = own_agent_name(view)
            agent_name = own_name or agent_name_of(view)
            node = self._run_of(view, plan, kind, events, left_out, is_used=plan.reports_use or decides)
            if own_name is not None or kind in _IS_AGENTS_WORK:
                node.agent = Agent(own_name or named_agent(view), agent_name, takes_child_name=own_name is None)
            else:
                node.is_idle = span_work_of(view, has_events=bool(events)) in (NO_WORK, NO_WORK_OF_AGENT)
            node.state = self._state_of(view, span.events, agent_name)
        else:
            step, more = self._step_of(view, plan)
            usage = _with_left_out(_usage_of_step(view, plan, kind), (more, *left_out))
            node = SpanNode(step, usage=usage, events=events, start_ns=view.start_ns)
        node.parent_start = _parent_start(view, sender.starts)
        node.service = sender.service
        node.is_from_agent = node.agent is not None or "model_calls" in node.usage or sender.is_coding_agent
        node.last_call_decides = decides
        return node

    def _step_of(self, view: SpanView, plan: AttributePlan) -> tuple[RunSpan, Mapping[str, int]]:
        """Return the span as a step, and what is left out of its attributes."""
        attributes = view.attributes
        if plan.takes_as_they_are(attributes) and plan.keeps_all(attributes):
            return RunSpan(**step_members(view, self._around, event_id="", run_id="", kept=attributes)), NOTHING
        kept, left_out = self._rule.keep(attributes)
        kept = clean(kept, max_bytes=self._around.max_bytes)
        return RunSpan(**step_members(view, self._around, event_id="", run_id="", kept=kept)), left_out

    def _run_of(
        self,
        view: SpanView,
        plan: AttributePlan,
        kind: Kind | None,
        events: list[RunEvent],
        left_out: list[Mapping[str, int]],
        *,
        is_used: bool,
    ) -> SpanNode:
        """Return the span as a run, without its state and its agent."""
        span, of_step = self._step_of(view, plan)
        of_run = self._rule.keep({key: view.attributes[key] for key in plan.left_over})[1] if of_step else of_step
        usage = own_usage(view) if is_used or kind in (names.MODEL, names.TOOL) else {}
        may_be_step = view.parent_span_id is not None and not plan.is_marked
        return SpanNode(
            span,
            is_run=True,
            usage=_with_left_out(usage, (of_run, *left_out)),
            events=events,
            start_ns=view.start_ns,
            as_step=_with_left_out(usage_of_step(view), (of_step, *left_out)) if may_be_step else None,
        )

    def _state_of(self, view: SpanView, events: Sequence[Span.Event], agent_name: str) -> Fields:
        """Return the state of the run that a span is. Raises RecordError."""
        event_id = span_event_id(view.trace_id, view.span_id, view.start_ns)
        wanted = view.attributes.get(names.RUN_ID)
        if check_custom_run_id(wanted) is not None:
            wanted = generate_run_id(agent_name, at_ns=view.start_ns, token=event_id[:8])
        exceptions = [_values_of(event.attributes) for event in events if event.name == EXCEPTION]
        around, problems = self._around, list[str]()
        # What is left out is counted in the roll-up: which spans of the run are known here depends on the request.
        run = ended_run(
            view,
            run_id=str(wanted),
            exceptions=exceptions,
            around=around,
            problems=problems,
            left_out=None,
            agent_name=agent_name,
        )
        return checked_state(run)

    def _event_of(self, event: Span.Event, view: SpanView, left_out: list[Mapping[str, int]]) -> RunEvent:
        """Return an event; the names of what is left out of it are added to `left_out`."""
        values = _values_of(event.attributes)
        kept: Mapping[str, Any] = values
        is_judged = self._rule.ruled_events[event.name] or any(map(is_listed_content, values))
        if is_judged or not self._plans[tuple(values)].takes_as_they_are(values):
            kept, names_left_out = self._rule.keep_of_event(event.name, values)
            if names_left_out:
                left_out.append(names_left_out)
            kept = clean(dict(kept), max_bytes=self._around.max_bytes)
        return RunEvent(
            event_id="",
            run_id="",
            event_type=kept_name(names.event_name_of(event.name, values) or "event"),
            timestamp=iso_utc(event.time_unix_nano or view.start_ns),
            payload=kept,
            trace_id=view.trace_id,
            span_id=view.span_id,
        )


# --- reading


def _spans_of(group: ResourceSpans, received: Received) -> Iterator[ReceivedSpan]:
    """Yield the spans of one resource that keep the rules; the others are refused."""
    resource = _values_of(group.resource.attributes)
    starts: dict[_Ids, list[int]] = {}
    parents: dict[_Ids, _Ids] = {}
    has_rules = names.marks_sender(resource)
    sender = _Sender(resource, service_of(resource), has_rules and is_of_coding_agent(resource), has_rules, starts)
    for scope in group.scope_spans:
        for span in scope.spans:
            if (broken := _rule_broken(span)) is not None:
                received.refuse(broken)
                continue
            ids = (span.trace_id, span.span_id)
            starts.setdefault(ids, []).append(_start_of(span))  # whole when the first node is made
            parents[ids] = (span.trace_id, span.parent_span_id)
            yield ReceivedSpan(span, sender)
    for span_id in _own_ancestors(parents):
        received.warn(f"span {span_id.hex()}: is its own ancestor, and has no root")


def _rule_broken(span: Span) -> str | None:
    if len(span.trace_id) != _TRACE_ID or not any(span.trace_id):
        return "trace_id must be 16 bytes that are not all zero"
    if len(span.span_id) != _SPAN_ID or not any(span.span_id):
        return "span_id must be 8 bytes that are not all zero"
    if span.parent_span_id and len(span.parent_span_id) != _SPAN_ID:
        return "parent_span_id must be empty or 8 bytes"
    return None


def _start_of(span: Span) -> int:
    return min(span.start_time_unix_nano or span.end_time_unix_nano, _LATEST_START_NS)


def _view_of(span: Span, resource: dict[str, Any]) -> SpanView:
    parent = span.parent_span_id
    start_ns = _start_of(span)
    end_ns = span.end_time_unix_nano
    status = span.status
    view = SpanView(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=parent.hex() if any(parent) else None,
        kind=_KINDS[span.kind] if 0 <= span.kind < len(_KINDS) else _KINDS[0],
        start_ns=start_ns,
        end_ns=max(end_ns, start_ns) if end_ns else None,
        status=_STATUSES[status.code] if 0 <= status.code < len(_STATUSES) else _STATUSES[0],
        status_message=status.message or None,
        attributes=_values_of(span.attributes),
        resource=resource,
    )
    return view if names.PENDING.keys().isdisjoint(view.attributes) else announced_by(view)


def _values_of(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value_of(pair.value) for pair in attributes}


def _value_of(value: AnyValue) -> Any:
    if text := value.string_value:  # most are texts
        return text
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value_of(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _values_of(value.kvlist_value.values)
    return getattr(value, kind)


def _own_ancestors(parents: Mapping[_Ids, _Ids]) -> Iterator[bytes]:
    """Yield the ids of spans that lead back to themselves by their parents, one of each circle."""
    passed: dict[_Ids, int] = {}
    """Ids → the number of the way on which they were passed."""
    for number, at in enumerate(parents):
        if at in passed:
            continue
        while at in parents and at not in passed:
            passed[at] = number
            at = parents[at]  # noqa: PLW2901 - on the way up
        if passed.get(at) == number:
            yield at[1]


# --- what a span is


def _parent_start(view: SpanView, starts: Mapping[_Ids, Sequence[int]]) -> str | None:
    """Return when a span's parent began, None when its sender did not send it along.

    Ids repeat where applications seed `random`; what comes from one sender belongs together.
    """
    if view.parent_span_id is None:
        return None
    known = starts.get((bytes.fromhex(view.trace_id), bytes.fromhex(view.parent_span_id)))
    if not known:
        return None
    if len(known) == 1:
        return iso_utc(known[0])
    earlier = [start_ns for start_ns in known if start_ns <= view.start_ns]
    return iso_utc(max(earlier) if earlier else min(known))


def _usage_of_step(view: SpanView, plan: AttributePlan, kind: Kind | None) -> Usage:
    """Return what a step used; most used nothing, or are one call of a tool."""
    if plan.reports_use or kind == names.MODEL or kind in _IS_AGENTS_WORK:
        return usage_of_step(view)
    return usage_of_kind(kind, is_error=view.status == "error")


def _with_left_out(usage: Usage, left_out: Sequence[Mapping[str, int]]) -> Usage:
    """Return a usage with the counts of what was left out as message content, where anything was."""
    counts = sum_of(left_out) if any(left_out) else NOTHING
    return {**usage, LEFT_OUT: counts} if counts else usage
