"""The OTLP/HTTP receiver: `POST /v1/traces`, `/v1/logs` and `/v1/metrics`, protobuf and JSON (OTLP 1.x specification).

200 with an Export…ServiceResponse in the request's encoding; items that can never be stored are
counted in `partial_success`, which exporters do not retry. 400 for what is not OTLP; a transient
failure is 503 with Retry-After, because exporters give up on a 500.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import Response

from otel_agent_telemetry.service.guards import client_of
from otel_agent_telemetry.service.openapi import OperationGroup, responses
from otel_agent_telemetry.service.otlp_intake import OtlpIntake
from otel_agent_telemetry.service.otlp_parsing import parse_json, parse_protobuf
from otel_agent_telemetry.service.otlp_signals import LOGS, METRICS, TRACES, Signal, camel_case
from otel_agent_telemetry.service.request_body import media_type_of, read_body
from otel_agent_telemetry.service.responses import PROTOBUF, RequestError

JSON: Final = "application/json"
_BYTES: Final[dict[str, Any]] = {"schema": {"type": "string", "format": "binary"}}
_OBJECT: Final[dict[str, Any]] = {"schema": {"type": "object"}}
_OBJECTS: Final = {"type": ["array", "null"], "items": {"type": "object"}}

operations = OperationGroup("OTLP")


def _described(signal: Signal) -> dict[str, Any]:
    """Return how the operation of a signal is described and registered."""
    of_json = {"type": "object", "properties": {camel_case(signal.groups): _OBJECTS}}
    return {
        "summary": f"OTLP/HTTP {signal.name}",
        "responses": responses(None, 200, 400, 413, 415, 429, 503, content={PROTOBUF: _BYTES, JSON: _OBJECT}),
        "request_body": {"required": True, "content": {PROTOBUF: _BYTES, JSON: {"schema": of_json}}},
    }


@operations.add("POST", TRACES.path, **_described(TRACES))
async def export_traces(request: Request) -> Response:
    """Store root spans as runs, their events as the runs' events, the spans below them as their steps.

    Sending the same spans again changes nothing. The response comes after the commit that holds them.
    """
    return await _export(request, TRACES)


@operations.add("POST", LOGS.path, **_described(LOGS))
async def export_logs(request: Request) -> Response:
    """Store log records of runs as their events; those of no run are only counted, by the name of their service.

    Sending the same records again changes nothing. The response comes after the commit that holds them.
    """
    return await _export(request, LOGS)


@operations.add("POST", METRICS.path, **_described(METRICS))
async def export_metrics(request: Request) -> Response:
    """Store what metrics of coding agents count for each session; any other metric is taken and not stored.

    Sending the same data points again changes nothing. The response comes after the commit that holds them.
    """
    return await _export(request, METRICS)


async def _export(request: Request, signal: Signal) -> Response:
    """Return the response to a request of a signal."""
    intake: OtlpIntake[Any, Any] = request.app.state.otlp[signal.name]
    backend, media_type = intake.backend, _encoding_of(request)
    # Held until the response: the decoded items are as large as the body and live as long.
    with backend.body_budget.reserve(client_of(request.scope)) as reservation:
        body = await read_body(request, reservation, max_bytes=backend.settings.api_max_body_bytes)
        response = await intake.export(body, parse_json if media_type == JSON else parse_protobuf)
    return _encode(response, media_type)


def _encoding_of(request: Request) -> str:
    """Return the media type of the request. Raises RequestError 415."""
    media_type = media_type_of(request)
    if media_type not in (PROTOBUF, JSON):
        raise RequestError(415, f"Content-Type must be {PROTOBUF} or {JSON}")
    return media_type


def _encode(message: Message, media_type: str) -> Response:
    """Return a message as a response in the encoding of the request."""
    content = MessageToJson(message, indent=None).encode() if media_type == JSON else message.SerializeToString()
    return Response(content, media_type=media_type)
