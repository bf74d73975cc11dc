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
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.last_error import EXCEPTION
from otel_agent_telemetry.model import RunEvent, RunSpan
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.attribute_plan import AttributePlan, AttributePlans
from otel_agent_telemetry.otel.content import ContentRule, is_listed_content, rule_of
from otel_agent_telemetry.otel.content_choice import around_of
from otel_agent_telemetry.otel.conventions.convention import Kind
from otel_agent_telemetry.otel.ended_spans import ended_run, is_run, step_members
from otel_agent_telemetry.otel.left_out import NOTHING, sum_of
from otel_agent_telemetry.otel.mapping import agent_name_of, named_agent, own_agent_name
from otel_agent_telemetry.otel.otlp_spans import (
    ReceivedSpan,
    Sender,
    parent_start_of,
    received_spans,
    spans_of,
    values_of,
    view_of_received,
)
from otel_agent_telemetry.otel.received import Received
from otel_agent_telemetry.otel.span_work import span_work_of
from otel_agent_telemetry.otel.spans import SpanView, run_of_resource
from otel_agent_telemetry.otel.usage import last_call_decides, own_usage, usage_of_kind, usage_of_step
from otel_agent_telemetry.recording.active_runs import ResourceDefaults
from otel_agent_telemetry.redaction import clean, kept_name, kept_run_id
from otel_agent_telemetry.run_id import check_custom_run_id, generate_run_id, span_event_id
from otel_agent_telemetry.run_state import checked_state
from otel_agent_telemetry.storage.rollups import Agent
from otel_agent_telemetry.storage.store import WriteBatch
from otel_agent_telemetry.storage.traces import SpanNode
from otel_agent_telemetry.usage import LEFT_OUT, Usage
from otel_agent_telemetry.wire import NO_WORK, NO_WORK_OF_AGENT

_log = logging.getLogger(__name__)

_IS_AGENTS_WORK: Final = (names.AGENT, names.CHAIN)


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

    def read(self, request: ExportTraceServiceRequest) -> Received[ReceivedSpan]:
        """Return the spans of a request, and why others are refused."""
        received = received_spans()
        for group in request.resource_spans:
            received.items += spans_of(group, received)
        return received

    def nodes_of(self, spans: Iterable[ReceivedSpan], received: Received[ReceivedSpan]) -> list[SpanNode]:
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

    def batch_of(self, nodes: Sequence[SpanNode]) -> WriteBatch:
        """Return what is to be written of some nodes."""
        return WriteBatch([node.state for node in nodes if node.state is not None], (), nodes)

    def name_of(self, node: SpanNode) -> str:
        """Return what a message calls a node."""
        return f"span {node.span.span_id}"

    def _node_of(self, span: Span, sender: Sender) -> SpanNode:
        """Return what is stored of one span. Raises RecordError for a value that breaks a rule."""
        view = view_of_received(span, sender.resource)
        if sender.is_coding_agent and view.name in names.PROMPT_SPANS:
            # Without a parent: the spans above it are never sent, and would be a failed run around it after a silence.
            attributes = {**view.attributes, names.GEN_AI_OPERATION: names.INVOKE_AGENT}
            view = view._replace(parent_span_id=None, attributes=attributes)
        around = around_of(self._around, sender.resource, view.attributes)
        rule = self._rule if around is self._around else rule_of(around)
        plan = self._plans[tuple(view.attributes)]
        kind = plan.kind_of(view.attributes, view.name)
        has_rules = sender.has_rules or not names.SENDER_MARKS.isdisjoint(view.attributes)
        decides = has_rules and last_call_decides(view)
        left_out: list[Mapping[str, int]] = []
        events = [self._event_of(event, view, rule, left_out) for event in span.events]
        may_be_run = view.parent_span_id is None or plan.is_marked or kind == names.AGENT
        if may_be_run and is_run(view, self._runs):
            own_name = own_agent_name(view)
            agent_name = own_name or agent_name_of(view)
            node = self._run_of(view, plan, rule, kind, events, left_out, is_used=plan.reports_use or decides)
            if own_name is not None or kind in _IS_AGENTS_WORK:
                node.agent = Agent(own_name or named_agent(view), agent_name, takes_child_name=own_name is None)
            else:
                node.is_idle = span_work_of(view, has_events=bool(events)) in (NO_WORK, NO_WORK_OF_AGENT)
            node.state = self._state_of(view, span.events, agent_name)
            # Of an agent's run alone: the plumbing of its program belongs to nobody's command.
            outer = run_of_resource(sender.resource) if node.agent is not None and view.parent_span_id is None else None
            if outer is not None:
                node.state.setdefault("parent_run_id", outer)
        else:
            step, more = self._step_of(view, plan, rule)
            usage = _with_left_out(_usage_of_step(view, plan, kind), (more, *left_out))
            node = SpanNode(step, usage=usage, events=events, start_ns=view.start_ns)
        node.parent_start = parent_start_of(view, sender.starts)
        node.service = sender.service
        node.is_from_agent = node.agent is not None or "model_calls" in node.usage or sender.is_coding_agent
        node.is_from_coding_agent = sender.is_coding_agent
        node.last_call_decides = decides
        return node

    def _step_of(self, view: SpanView, plan: AttributePlan, rule: ContentRule) -> tuple[RunSpan, Mapping[str, int]]:
        """Return the span as a step, and what is left out of its attributes."""
        attributes = view.attributes
        if plan.takes_as_they_are(attributes) and plan.keeps_all(attributes):
            return RunSpan(**step_members(view, self._around, event_id="", run_id="", kept=attributes)), NOTHING
        kept, left_out = rule.keep(attributes)
        kept = clean(kept, max_bytes=self._around.max_bytes)
        return RunSpan(**step_members(view, self._around, event_id="", run_id="", kept=kept)), left_out

    def _run_of(
        self,
        view: SpanView,
        plan: AttributePlan,
        rule: ContentRule,
        kind: Kind | None,
        events: list[RunEvent],
        left_out: list[Mapping[str, int]],
        *,
        is_used: bool,
    ) -> SpanNode:
        """Return the span as a run, without its state and its agent."""
        span, of_step = self._step_of(view, plan, rule)
        of_run = rule.keep({key: view.attributes[key] for key in plan.left_over})[1] if of_step else of_step
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
        # Made from the span, so that a repeated request and another route give the run the same id.
        if check_custom_run_id(wanted) is not None:
            wanted = generate_run_id(agent_name, at_ns=view.start_ns, token=event_id[:8])
        exceptions = [values_of(event.attributes) for event in events if event.name == EXCEPTION]
        around, problems = self._around, list[str]()
        # What is left out is counted in the roll-up: which spans of the run are known here depends on the request.
        run = ended_run(
            view,
            run_id=kept_run_id(str(wanted)),
            exceptions=exceptions,
            around=around,
            problems=problems,
            left_out=None,
            agent_name=agent_name,
        )
        return checked_state(run)

    def _event_of(
        self, event: Span.Event, view: SpanView, rule: ContentRule, left_out: list[Mapping[str, int]]
    ) -> RunEvent:
        """Return an event; the names of what is left out of it are added to `left_out`."""
        values = values_of(event.attributes)
        kept: Mapping[str, Any] = values
        is_judged = rule.ruled_events[event.name] or any(map(is_listed_content, values))
        if is_judged or not self._plans[tuple(values)].takes_as_they_are(values):
            kept, names_left_out = rule.keep_of_event(event.name, values)
            if names_left_out:
                left_out.append(names_left_out)
            kept = clean(dict(kept), max_bytes=self._around.max_bytes)
        return RunEvent(
            event_id="",
            run_id="",
            event_type=kept_name(names.event_name_of(event.name, values) or "event"),
            # 0 is "not given" in protobuf, and not an event of 1970.
            timestamp=iso_utc(event.time_unix_nano or view.start_ns),
            payload=kept,
            trace_id=view.trace_id,
            span_id=view.span_id,
        )


def _usage_of_step(view: SpanView, plan: AttributePlan, kind: Kind | None) -> Usage:
    """Return what a step used; most used nothing, or are one call of a tool."""
    if plan.reports_use or kind == names.MODEL or kind in _IS_AGENTS_WORK:
        return usage_of_step(view)
    return usage_of_kind(kind, is_error=view.status == "error", attributes=view.attributes)


def _with_left_out(usage: Usage, left_out: Sequence[Mapping[str, int]]) -> Usage:
    """Return a usage with the counts of what was left out as message content, where anything was."""
    counts = sum_of(left_out) if any(left_out) else NOTHING
    return {**usage, LEFT_OUT: counts} if counts else usage
