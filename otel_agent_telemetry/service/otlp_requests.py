"""What an OTLP request means and what is told of it, whichever protocol carried it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from prometheus_client import Counter

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.otel.mapping import Surroundings
from otel_agent_telemetry.otel.received import Received, ReceivedSpan, received_of
from otel_agent_telemetry.service.keeping import keep
from otel_agent_telemetry.service.problems import RequestError
from otel_agent_telemetry.storage.batch import WriteBatch, WriteResult


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
    around = Surroundings({}, settings.capture_content, settings.max_event_bytes)
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
