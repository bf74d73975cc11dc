"""Decode OTLP requests of any signal, in protobuf or JSON: the second of the five stops of `otlp_intake`.

OTLP's JSON is not protobuf's JSON: ids are hex, and unknown fields are ignored. Protobuf's
parser would decode a hex id as base64, without an error, into a wrong id; so ids are
converted first, and the library parses the rest. (Those of exemplars are not: nobody reads them.)

A request that does not parse as a whole is taken item by item (`otlp_repair`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import DecodeError

from otel_agent_telemetry.service.otlp_signals import Signal, camel_case
from otel_agent_telemetry.service.request_body import loads_json
from otel_agent_telemetry.service.responses import RequestError

_IDS: Final = ("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id")
_MAX_REASON: Final = 200


class ParsedRequest(NamedTuple):
    """A request of a signal, and why those of its items that are not in it could not be taken."""

    request: Any
    refused: Sequence[str] = ()


Parse = Callable[[bytes, Signal], ParsedRequest]
"""`parse_protobuf` or `parse_json`."""


def parse_protobuf(body: bytes, signal: Signal) -> ParsedRequest:
    """Return the request in a protobuf body. Raises RequestError 400."""
    request = signal.request()
    try:
        # The usual case costs one call of the library; only what it refuses is looked at item by item.
        request.ParseFromString(body)
    except DecodeError:
        # Imported only where it is needed: it prepares message classes of its own.
        from otel_agent_telemetry.service.otlp_repair_protobuf import repaired_protobuf

        try:
            return ParsedRequest(*repaired_protobuf(body, signal))
        except DecodeError:
            raise RequestError(400, f"the body is no {signal.title}") from None
    return ParsedRequest(request)


def parse_json(body: bytes, signal: Signal) -> ParsedRequest:
    """Return the request in a JSON body. Raises RequestError 400."""
    value = loads_json(body)
    not_otlp = f"the body is no {signal.title} in JSON"
    if not isinstance(value, dict):
        raise RequestError(400, f"{not_otlp}: it must be an object")
    try:
        return ParsedRequest(_parse_object(value, signal))
    except (ParseError, TypeError, ValueError, AttributeError, RecursionError) as problem:
        reason = str(problem)[:_MAX_REASON]
    # Imported only where it is needed, as above. From the body again: the ids of some items are converted by now.
    from otel_agent_telemetry.service.otlp_repair import repaired_json

    request, refused = repaired_json(loads_json(body), signal)
    # Not even a place for items was found, so it is no matter of one of them.
    if not refused and not signal.items_of(request):
        raise RequestError(400, f"{not_otlp}: {reason}")
    return ParsedRequest(request, refused)


def _parse_object(value: dict[str, Any], signal: Signal) -> Any:
    """Return the request, the ids of whose items are converted in place. Raises what the library raises."""
    # Of metrics too, which have none to convert: the library passes over a text in the place of a message.
    for item in _items_of(value, signal):
        _hex_ids_to_base64(item)
        for link in _list(item, "links"):
            _hex_ids_to_base64(link)
    # The specification requires receivers to ignore fields that newer senders add.
    return ParseDict(value, signal.request(), ignore_unknown_fields=True)


def _items_of(value: dict[str, Any], signal: Signal) -> list[dict[str, Any]]:
    """Return every item of a JSON request. Raises TypeError."""
    return [
        item
        for group in _list(value, signal.groups)
        for scope in _list(group, signal.scopes)
        for item in _list(scope, signal.items)
    ]


def _list(value: Any, field: str) -> list[Any]:
    """Return the items under either spelling of a field's name. Raises TypeError for no list of objects."""
    name = camel_case(field)
    items = value.get(name, value.get(field)) or []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise TypeError(f"{name} must be an array of objects")
    return items


def _hex_ids_to_base64(item: dict[str, Any]) -> None:
    """Convert the ids of a span, link or log record, in place, to the base64 of protobuf's JSON. Raises ValueError."""
    for name in _IDS:
        if text := item.get(name):
            try:
                item[name] = base64.b64encode(bytes.fromhex(text)).decode()
            except (ValueError, TypeError, binascii.Error):
                raise ValueError(f"{name} must be hex digits") from None
