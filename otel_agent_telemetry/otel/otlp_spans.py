"""The spans of an OTLP trace request: checked by the rules of OTLP, and decoded when they are wanted. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, NamedTuple

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.mapping import service_of
from otel_agent_telemetry.otel.received import Received
from otel_agent_telemetry.otel.span_work import is_of_coding_agent
from otel_agent_telemetry.otel.spans import SpanView, announced_by

_KINDS: Final = ("internal", "internal", "server", "client", "producer", "consumer")
_STATUSES: Final = ("unset", "ok", "error")
_TRACE_ID: Final = 16
_SPAN_ID: Final = 8
_LATEST_START_NS: Final = 2**63 - 1  # in the year 2262: what a signed column holds

_Ids = tuple[bytes, bytes]
"""Trace id and span id."""


@dataclass(frozen=True, slots=True)
class Sender:
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
    sender: Sender


def received_spans() -> Received[ReceivedSpan]:
    """Return an empty `Received` of spans, for those of one request.

    In order of their start most runs stand before what is below them: a run that is stored first takes its steps
    at once; in another order they would wait as orphans.
    """
    return Received(attrgetter("span.start_time_unix_nano"))


def spans_of(group: ResourceSpans, received: Received[ReceivedSpan]) -> Iterator[ReceivedSpan]:
    """Yield the spans of one resource that keep the rules; the others are refused."""
    resource = values_of(group.resource.attributes)
    starts: dict[_Ids, list[int]] = {}
    parents: dict[_Ids, _Ids] = {}
    has_rules = names.marks_sender(resource)
    sender = Sender(resource, service_of(resource), has_rules and is_of_coding_agent(resource), has_rules, starts)
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
    """Return which rule of OTLP a span breaks; None for none."""
    if len(span.trace_id) != _TRACE_ID or not any(span.trace_id):
        return "trace_id must be 16 bytes that are not all zero"
    if len(span.span_id) != _SPAN_ID or not any(span.span_id):
        return "span_id must be 8 bytes that are not all zero"
    if span.parent_span_id and len(span.parent_span_id) != _SPAN_ID:
        return "parent_span_id must be empty or 8 bytes"
    return None


def _start_of(span: Span) -> int:
    """Return when a span began, in nanoseconds; its end where no start is given."""
    return min(span.start_time_unix_nano or span.end_time_unix_nano, _LATEST_START_NS)


def view_of_received(span: Span, resource: dict[str, Any]) -> SpanView:
    """Return the view of a span; of one that only announces another, the view of that other one."""
    parent = span.parent_span_id
    start_ns = _start_of(span)
    end_ns = span.end_time_unix_nano
    status = span.status
    view = SpanView(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        # Some senders write eight zero bytes for "no parent".
        parent_span_id=parent.hex() if any(parent) else None,
        # A newer version of the format may have kinds that are not known here.
        kind=_KINDS[span.kind] if 0 <= span.kind < len(_KINDS) else _KINDS[0],
        start_ns=start_ns,
        end_ns=max(end_ns, start_ns) if end_ns else None,
        status=_STATUSES[status.code] if 0 <= status.code < len(_STATUSES) else _STATUSES[0],
        status_message=status.message or None,
        attributes=values_of(span.attributes),
        resource=resource,
    )
    return view if names.PENDING.keys().isdisjoint(view.attributes) else announced_by(view)


def values_of(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    """Return attributes as plain values, lists and maps."""
    return {pair.key: value_of(pair.value) for pair in attributes}


def value_of(value: AnyValue) -> Any:
    """Return an attribute's value as a plain one; bytes stay bytes."""
    if text := value.string_value:  # most are texts
        return text
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [value_of(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return values_of(value.kvlist_value.values)
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


def parent_start_of(view: SpanView, starts: Mapping[_Ids, Sequence[int]]) -> str | None:
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
