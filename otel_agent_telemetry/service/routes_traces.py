"""The OTLP/HTTP receiver: `POST /v1/traces`, protobuf and JSON (OTLP 1.x specification).

200 with an ExportTraceServiceResponse in the request's encoding; spans that can never be
taken are counted in `partial_success`, which senders do not repeat. 400 for what is not
OTLP; a passing fault of ours is 503 with Retry-After, because senders give up on a 500.
"""

from __future__ import annotations

from typing import Any, Final

import anyio
from fastapi import APIRouter, Request, Response
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from otel_agent_telemetry.otel.mapping import Surroundings
from otel_agent_telemetry.otel.received import Received, received_of
from otel_agent_telemetry.service import schemas
from otel_agent_telemetry.service.backend import Backend
from otel_agent_telemetry.service.bodies import media_type_of, read_body
from otel_agent_telemetry.service.otlp_json import request_of_json
from otel_agent_telemetry.service.problems import RequestError
from otel_agent_telemetry.service.routes_write import backend_of
from otel_agent_telemetry.storage.batch import WriteBatch

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"
_LARGE_BODY: Final = 32 << 10
_BYTES: Final = {"schema": {"type": "string", "format": "binary"}}
_OBJECT: Final = {"schema": {"type": "object"}}
_OBJECTS: Final = {"type": ["array", "null"], "items": {"type": "object"}}
_REQUEST: Final = {
    PROTOBUF: _BYTES,
    JSON: {"schema": {"type": "object", "properties": {"resourceSpans": _OBJECTS}}},
}

router = APIRouter(tags=["OTLP"])


@router.post(
    "/v1/traces",
    summary="OTLP/HTTP traces",
    responses={
        **schemas.answers(None, 200, 400, 413, 415, 429, 503),
        200: {"content": {PROTOBUF: _BYTES, JSON: _OBJECT}},
    },
    openapi_extra={"requestBody": {"required": True, "content": _REQUEST}},
)
async def export_traces(request: Request) -> Response:
    """Root spans become runs, their events the runs' events, the spans below them their steps.

    The same spans again change nothing. Answers after the commit that holds them.
    """
    backend, kind = backend_of(request), _encoding_of(request)
    with backend.held.holding() as hold:
        body = await read_body(request, hold, max_bytes=backend.settings.api_max_body_bytes)
        received = await _received(backend, kind, body)
    answer = await take(backend, received, request.app.state.figures.spans)
    return encoded(answer, kind)


def _encoding_of(request: Request) -> str:
    kind = media_type_of(request)
    if kind not in (PROTOBUF, JSON):
        raise RequestError(415, f"Content-Type must be {PROTOBUF} or {JSON}")
    return kind


async def _received(backend: Backend, kind: str, body: bytes) -> Received:
    if len(body) < _LARGE_BODY:
        return parsed(backend, kind, body)
    return await anyio.to_thread.run_sync(parsed, backend, kind, body)


def parsed(backend: Backend, kind: str, body: bytes) -> Received:
    """The runs and spans of a body. Raises RequestError 400."""
    message = request_of_json(body) if kind == JSON else _request_of_protobuf(body)
    return understood(backend, message)


def understood(backend: Backend, message: ExportTraceServiceRequest) -> Received:
    """The runs and spans of a request, as this service is set to see them."""
    settings = backend.settings
    around = Surroundings({}, settings.capture_content, settings.max_event_bytes)
    return received_of(message, runs=settings.runs, around=around)


def _request_of_protobuf(body: bytes) -> ExportTraceServiceRequest:
    try:
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
    except DecodeError:
        raise RequestError(400, "the body is no ExportTraceServiceRequest") from None
    return request


async def take(backend: Backend, received: Received, counter: Any) -> ExportTraceServiceResponse:
    """Keep what was received; the answer tells what could not be taken. Raises as `Backend.write` does."""
    if received.nodes:
        await backend.write(WriteBatch(received.records, (), received.nodes))
        counter.labels("accepted").inc(len(received.nodes))
    answer = ExportTraceServiceResponse()
    if received.refused:
        counter.labels("refused").inc(received.refused)
        answer.partial_success.rejected_spans = received.refused
        answer.partial_success.error_message = "; ".join(received.reasons)
    return answer


def encoded(message: Message, kind: str, status: int = 200) -> Response:
    """A message in the encoding of the request."""
    content = MessageToJson(message, indent=None).encode() if kind == JSON else message.SerializeToString()
    return Response(content, status, media_type=kind)
