"""What an OTLP request means and what is told of it, whichever protocol carried it.

OTLP's own JSON, which is not protobuf's: ids are hex, unknown fields are ignored.

protobuf's parser would read a hex id as base64 and make a wrong one of it, without a word;
so ids are turned first, and then the kept library does the rest.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import orjson
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from prometheus_client import Counter

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.otel.receiver import Received, ReceivedSpan, received_of
from otel_agent_telemetry.recording.active_runs import ResourceDefaults
from otel_agent_telemetry.service.bisect import keep
from otel_agent_telemetry.service.problems import RequestError
from otel_agent_telemetry.storage.store import WriteBatch, WriteResult


def request_of_protobuf(body: bytes) -> ExportTraceServiceRequest:
    """The request in a protobuf body. Raises RequestError 400."""
    try:
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
    except DecodeError:
        raise RequestError(400, "the body is no ExportTraceServiceRequest") from None
    return request


def understood(settings: TelemetryConfig, request: ExportTraceServiceRequest) -> Received:
    """The runs and spans of a request, as the settings say to see them."""
    around = ResourceDefaults({}, settings.capture_content, settings.max_event_bytes)
    return received_of(request, runs=settings.runs, around=around)


async def kept(
    received: Received, write: Callable[[WriteBatch], Awaitable[WriteResult]], spans: Counter
) -> ExportTraceServiceResponse:
    """Keep what was received; the answer tells how many spans could not be taken, and why. Raises as `write` does."""
    _, refused = await keep(write, received.spans, _batch_of)
    for span, reason in refused:
        received.refuse(f"span {span.node.span.span_id}: {reason}")
    spans.labels("accepted").inc(len(received.spans) - len(refused))
    spans.labels("refused").inc(received.refused)
    answer = ExportTraceServiceResponse()
    if received.refused:
        answer.partial_success.rejected_spans = received.refused
        answer.partial_success.error_message = "; ".join(received.reasons)
    return answer


def _batch_of(spans: Sequence[ReceivedSpan]) -> WriteBatch:
    return WriteBatch([span.record for span in spans if span.record is not None], (), [span.node for span in spans])


_IDS: Final = ("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id")
_NOT_OTLP: Final = "the body is no OTLP trace request in JSON"
_MAX_REASON: Final = 200


def request_of_json(body: bytes) -> ExportTraceServiceRequest:
    """The request of a JSON body. Raises RequestError 400."""
    try:
        value = orjson.loads(body)
    except ValueError as problem:
        raise RequestError(400, f"the body is not JSON: {str(problem)[:_MAX_REASON]}") from None
    if not isinstance(value, dict):
        raise RequestError(400, f"{_NOT_OTLP}: it must be an object")
    try:
        for span in _spans_of(value):
            _turn_ids(span)
            for link in _list(span, "links"):
                _turn_ids(link)
        request = ExportTraceServiceRequest()
        ParseDict(value, request, ignore_unknown_fields=True)
    except (ParseError, TypeError, ValueError, AttributeError, RecursionError) as problem:
        raise RequestError(400, f"{_NOT_OTLP}: {str(problem)[:_MAX_REASON]}") from None
    return request


def _spans_of(value: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        span
        for group in _list(value, "resourceSpans", "resource_spans")
        for scope in _list(group, "scopeSpans", "scope_spans")
        for span in _list(scope, "spans")
    ]


def _list(value: Any, *names: str) -> list[Any]:
    """The items under the first of the names that is there. Raises TypeError for what is no list of objects."""
    found = next((value[name] for name in names if name in value), None) or []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise TypeError(f"{names[0]} must be an array of objects")
    return found


def _turn_ids(span: dict[str, Any]) -> None:
    """Hex into the base64 that protobuf's JSON wants. Raises ValueError."""
    for name in _IDS:
        if text := span.get(name):
            try:
                span[name] = base64.b64encode(bytes.fromhex(text)).decode()
            except (ValueError, TypeError, binascii.Error):
                raise ValueError(f"{name} must be hex digits") from None
