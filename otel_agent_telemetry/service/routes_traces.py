"""The OTLP/HTTP receiver: `POST /v1/traces`, protobuf and JSON (OTLP 1.x specification).

200 with an ExportTraceServiceResponse in the request's encoding; spans that can never be
taken are counted in `partial_success`, which senders do not repeat. 400 for what is not
OTLP; a passing fault of ours is 503 with Retry-After, because senders give up on a 500.
"""

from __future__ import annotations

from typing import Final

import anyio
from fastapi import APIRouter, Request, Response
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from otel_agent_telemetry.otel.receiver import Received
from otel_agent_telemetry.service import schemas
from otel_agent_telemetry.service.backend import Backend
from otel_agent_telemetry.service.otlp_parsing import kept, request_of_json, request_of_protobuf, understood
from otel_agent_telemetry.service.problems import OTLP_PATH, PROTOBUF, RequestError
from otel_agent_telemetry.service.request_body import media_type_of, read_body
from otel_agent_telemetry.service.routes_write import backend_of

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
    OTLP_PATH,
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
        answer = await kept(received, backend.write, request.app.state.figures.spans)
    return _encoded(answer, kind)


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
    return understood(backend.settings, request_of_json(body) if kind == JSON else request_of_protobuf(body))


def _encoded(message: Message, kind: str) -> Response:
    """A message in the encoding of the request."""
    content = MessageToJson(message, indent=None).encode() if kind == JSON else message.SerializeToString()
    return Response(content, media_type=kind)
