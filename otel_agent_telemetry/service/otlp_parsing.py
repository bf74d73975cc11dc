"""Decode OTLP trace requests, in protobuf or JSON: the second of the five stops of `otlp_intake`.

OTLP's JSON is not protobuf's JSON: ids are hex, and unknown fields are ignored. Protobuf's
parser would decode a hex id as base64, without an error, into a wrong id; so ids are
converted first, and the library parses the rest.

A request that does not parse as a whole is taken span by span (`otlp_repair`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_agent_telemetry.service.request_body import loads_json
from otel_agent_telemetry.service.responses import RequestError

_IDS: Final = ("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id")
_NOT_OTLP: Final = "the body is no OTLP trace request in JSON"
_MAX_REASON: Final = 200


class ParsedRequest(NamedTuple):
    """A trace request, and why those of its spans that are not in it could not be taken."""

    request: ExportTraceServiceRequest
    refused: Sequence[str] = ()


def parse_protobuf(body: bytes) -> ParsedRequest:
    """Return the request in a protobuf body. Raises RequestError 400."""
    request = ExportTraceServiceRequest()
    try:
        # The usual case costs one call of the library; only what it refuses is looked at span by span.
        request.ParseFromString(body)
    except DecodeError:
        # Imported only where it is needed: it prepares message classes of its own.
        from otel_agent_telemetry.service.otlp_repair import repaired_protobuf

        try:
            return ParsedRequest(*repaired_protobuf(body))
        except DecodeError:
            raise RequestError(400, "the body is no ExportTraceServiceRequest") from None
    return ParsedRequest(request)


def parse_json(body: bytes) -> ParsedRequest:
    """Return the request in a JSON body. Raises RequestError 400."""
    value = loads_json(body)
    if not isinstance(value, dict):
        raise RequestError(400, f"{_NOT_OTLP}: it must be an object")
    try:
        return ParsedRequest(_parse_object(value))
    except (ParseError, TypeError, ValueError, AttributeError, RecursionError) as problem:
        reason = str(problem)[:_MAX_REASON]
    # Imported only where it is needed, as above. From the body again: the ids of some spans are converted by now.
    from otel_agent_telemetry.service.otlp_repair import repaired_json

    request, refused = repaired_json(loads_json(body))
    # Not even a place for spans was found, so it is no matter of one of them.
    if not refused and not any(scope.spans for group in request.resource_spans for scope in group.scope_spans):
        raise RequestError(400, f"{_NOT_OTLP}: {reason}")
    return ParsedRequest(request, refused)


def _parse_object(value: dict[str, Any]) -> ExportTraceServiceRequest:
    """Return the request, the ids of whose spans are converted in place. Raises what the library raises."""
    for span in _spans_of(value):
        _hex_ids_to_base64(span)
        for link in _list(span, "links"):
            _hex_ids_to_base64(link)
    request = ExportTraceServiceRequest()
    # The specification requires receivers to ignore fields that newer senders add.
    return ParseDict(value, request, ignore_unknown_fields=True)


def _spans_of(value: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every span of a JSON request. Raises TypeError."""
    return [
        span
        for group in _list(value, "resourceSpans", "resource_spans")
        for scope in _list(group, "scopeSpans", "scope_spans")
        for span in _list(scope, "spans")
    ]


def _list(value: Any, *names: str) -> list[Any]:
    """Return the items under the first of the names that is present. Raises TypeError for no list of objects."""
    items = next((value[name] for name in names if name in value), None) or []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise TypeError(f"{names[0]} must be an array of objects")
    return items


def _hex_ids_to_base64(span: dict[str, Any]) -> None:
    """Convert the ids of a span or link, in place, to the base64 of protobuf's JSON. Raises ValueError."""
    for name in _IDS:
        if text := span.get(name):
            try:
                span[name] = base64.b64encode(bytes.fromhex(text)).decode()
            except (ValueError, TypeError, binascii.Error):
                raise ValueError(f"{name} must be hex digits") from None
