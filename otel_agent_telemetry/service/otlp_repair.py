"""OTLP requests in JSON in which something is wrong: each item is taken by itself, so that one spares the others.

Used only where parsing the whole request failed. What has one meaning is repaired; a span, log
record or data point that has none is refused with the reason, which `partial_success` carries,
because exporters do not send a request again that was answered with 400.

    repaired    lone surrogates, ids in base64, numbers as text, integers beyond 64 bits (kept as text),
                times in ISO 8601, nulls in lists, values nested too deeply (cut); of a log record also a body that
                is a plain value; an odd severity and ids of another length are left away
    refused     of a span ids of another length; a time that is none, anything else that the format has no place for
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from typing import Any, Final

from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message
from opentelemetry.proto.metrics.v1 import metrics_pb2

from otel_agent_telemetry.clock import parse_iso
from otel_agent_telemetry.errors import AgentTelemetryError
from otel_agent_telemetry.service.otlp_signals import LOGS, Signal, camel_case

_IDS: Final = {"traceId": 16, "spanId": 8, "parentSpanId": 8}
_TIMES: Final = ("startTimeUnixNano", "endTimeUnixNano", "timeUnixNano", "observedTimeUnixNano")
_NUMBERS: Final = ("flags", "droppedAttributesCount", "droppedEventsCount", "droppedLinksCount")
_METRIC_KINDS: Final = {
    "gauge": metrics_pb2.NumberDataPoint,
    "sum": metrics_pb2.NumberDataPoint,
    "histogram": metrics_pb2.HistogramDataPoint,
    "exponentialHistogram": metrics_pb2.ExponentialHistogramDataPoint,
    "summary": metrics_pb2.SummaryDataPoint,
}
"""JSON name of a metric's data → the message of its data points."""
_MAX_DEPTH: Final = 16
_MAX_REASON: Final = 200
_UINT64: Final = 1 << 64
_INT64: Final = 1 << 63
_HEX_DIGITS_A_BYTE: Final = 2


class ItemError(AgentTelemetryError):
    """A span, log record or data point that cannot be taken; the message names the rule that it breaks."""


def repaired_json(value: dict[str, Any], signal: Signal) -> tuple[Any, list[str]]:
    """Return what can be taken of a JSON request, and why each of the other items cannot."""
    request, refused = signal.request(), list[str]()
    for group in _objects(value, camel_case(signal.groups)):
        of_resource = getattr(request, signal.groups).add()
        _parse_part(group.get("resource"), of_resource.resource)
        for scope in _objects(group, camel_case(signal.scopes)):
            of_scope = getattr(of_resource, signal.scopes).add()
            _parse_part(scope.get("scope"), of_scope.scope)
            for item in _objects(scope, camel_case(signal.items)):
                try:
                    getattr(of_scope, signal.items).append(_item_of_json(item, signal, refused))
                except ItemError as problem:
                    refused.append(str(problem))
    return request, refused


def _objects(value: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of a list under either spelling of its name; what is none is passed over."""
    found = next((value[key] for key in value if camel_case(key) == name), None)
    for item in found if isinstance(found, list) else ():
        if isinstance(item, dict):
            yield item


def _parse_part(value: Any, message: Message) -> None:
    """Fill a resource or scope; it stays empty where it cannot be read, since its items can."""
    if isinstance(value, dict):
        try:
            ParseDict(_repaired(value), message, ignore_unknown_fields=True)
        except (ItemError, ParseError, TypeError, ValueError, AttributeError, RecursionError):
            message.Clear()


def _item_of_json(value: dict[str, Any], signal: Signal, refused: list[str]) -> Any:
    """Return an item; of a metric the data points that cannot be taken are refused one by one. Raises ItemError."""
    if signal is LOGS:
        return _parsed(_repaired(_record_in_form(value)), signal.item, signal.item_name)
    return _parsed(_repaired(value, refused), signal.item, signal.item_name)


def _parsed(value: dict[str, Any], message: type[Any], name: str) -> Any:
    """Return the message of a repaired value. Raises ItemError."""
    try:
        return ParseDict(value, message(), ignore_unknown_fields=True)
    except (ParseError, TypeError, ValueError, AttributeError, RecursionError) as problem:
        raise ItemError(f"a {name} is not as OTLP has it: {str(problem)[:_MAX_REASON]}") from None


def _record_in_form(value: dict[str, Any]) -> dict[str, Any]:
    """Return a log record without what is odd about it and not needed to understand it."""
    record = {camel_case(key): member for key, member in value.items()}
    for name in _IDS.keys() & record.keys():
        try:
            _id_in_base64(name, record[name] or "")
        except ItemError:
            # A record is worth keeping without the ids of its span.
            del record[name]
    if "body" in record and not isinstance(record["body"], dict):
        record["body"] = _plain_value(record["body"])
    # A number or a name: an unknown name the library passes over.
    if not isinstance(record.get("severityNumber", 0), (int, str)):
        del record["severityNumber"]
    return record


def _repaired(value: dict[str, Any], refused: list[str] | None = None) -> dict[str, Any]:
    """Return a copy of an item, or a part of one, with its fields repaired. Raises ItemError.

    `refused` gets the reasons of the data points of a metric that are left away.
    """
    repaired: dict[str, Any] = {}
    for key, member in value.items():
        name = camel_case(key)
        # Exemplars are read by nobody here, and their ids would have to be right.
        if member is None or name == "exemplars":
            continue
        if name in _METRIC_KINDS and isinstance(member, dict):
            repaired[name] = _with_points(member, _METRIC_KINDS[name], [] if refused is None else refused)
        else:
            repaired[name] = _field(name, member)
    return repaired


def _field(name: str, member: Any) -> Any:
    """Return the value of a field as the library takes it. Raises ItemError."""
    if name in _IDS:
        return _id_in_base64(name, member)
    if name in _TIMES:
        return str(_nanoseconds(name, member))
    if name in _NUMBERS:
        return _whole(name, member, _UINT64 >> 32)
    if name == "attributes":
        return [_attribute(item) for item in _list(member) if isinstance(item, dict)]
    if name in ("events", "links"):
        return [_repaired(item) for item in _list(member) if isinstance(item, dict)]
    return _value(member, 0) if name == "body" else member


def _with_points(value: dict[str, Any], message: type[Any], refused: list[str]) -> dict[str, Any]:
    """Return the data of a metric with those of its data points that can be taken."""
    members = {camel_case(key): member for key, member in value.items()}
    points = []
    for point in _list(members.get("dataPoints")):
        try:
            repaired = _repaired(point) if isinstance(point, dict) else {}
            _parsed(repaired, message, "data point")
        except ItemError as problem:
            refused.append(str(problem))
        else:
            points.append(repaired)
    return {**members, "dataPoints": points}


def _list(value: Any) -> list[Any]:
    """Return a list as it is; an empty one for anything else."""
    return value if isinstance(value, list) else []


def _id_in_base64(name: str, value: Any) -> str:
    """Return an id as protobuf's JSON has it, from hex digits or from base64. Raises ItemError."""
    size = _IDS[name]
    if value == "":
        return ""
    if isinstance(value, str):
        # Hex first, as OTLP has it; 32 hex digits are also valid base64, but of 24 bytes.
        for decode in (bytes.fromhex, _from_base64):
            try:
                if len(found := decode(value)) == size:
                    return base64.b64encode(found).decode()
            except (ValueError, binascii.Error):
                continue
    raise ItemError(f"{name} is not {size * _HEX_DIGITS_A_BYTE} hexadecimal digits")


def _from_base64(text: str) -> bytes:
    """Return the bytes of a text in base64. Raises binascii.Error for what is none."""
    return base64.b64decode(text, validate=True)


def _nanoseconds(name: str, value: Any) -> int:
    """Return a time in nanoseconds since 1970, from a number, digits, or ISO 8601. Raises ItemError."""
    if isinstance(value, str) and not value.strip().lstrip("+-").replace(".", "", 1).isdigit():
        try:
            return parse_iso(value)
        except ValueError:
            raise ItemError(f"{name} is not a time") from None
    return _whole(name, value, _UINT64)


def _whole(name: str, value: Any, limit: int) -> int:
    """Return an integer from 0 to below `limit`, from a number or digits. Raises ItemError."""
    try:
        # Not by float: the nanoseconds of today do not fit into one.
        number = int(value) if not isinstance(value, str) else int(value.strip().partition(".")[0])
    except (TypeError, ValueError, OverflowError):
        raise ItemError(f"{name} is not a number") from None
    if not 0 <= number < limit:
        raise ItemError(f"{name} is not from 0 to {limit - 1}")
    return number


def _plain_value(value: Any) -> dict[str, Any]:
    """Return a plain value in JSON as an AnyValue; an empty one for null."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, (int, float)):
        return {"intValue" if isinstance(value, int) else "doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_plain_value(item) for item in value]}}
    return {} if value is None else {"stringValue": str(value)}


def _attribute(item: dict[str, Any]) -> dict[str, Any]:
    """Return an attribute with a key and value that can be parsed."""
    value = item.get("value")
    return {"key": str(item.get("key", "")), "value": _value(value, 0) if isinstance(value, dict) else {}}


def _value(value: dict[str, Any], depth: int) -> dict[str, Any]:
    """Return an AnyValue that the format can hold; an empty one for what has no meaning."""
    if depth > _MAX_DEPTH:
        return {"stringValue": "(nested too deeply)"}
    for key, member in value.items():
        name = camel_case(key)
        if name == "arrayValue" and isinstance(member, dict):
            items = [_value(item, depth + 1) for item in _list(member.get("values")) if isinstance(item, dict)]
            return {name: {"values": items}}
        if name == "kvlistValue" and isinstance(member, dict):
            pairs = (item for item in _list(member.get("values")) if isinstance(item, dict))
            inner = [
                {"key": str(pair.get("key", "")), "value": _value(pair["value"], depth + 1)}
                for pair in pairs
                if isinstance(pair.get("value"), dict)
            ]
            return {name: {"values": inner}}
        if member is not None and (scalar := _scalar(name, member)) is not None:
            return scalar
    return {}


def _scalar(name: str, member: Any) -> dict[str, Any] | None:
    """Return a value that is no list, None for one without a meaning. What its type cannot hold is kept as text."""
    read = _SCALARS.get(name)
    if read is None:
        return None
    try:
        return {name: read(member)}
    except (TypeError, ValueError, OverflowError):
        return {"stringValue": str(member)}


def _int64(member: Any) -> str:
    """Return an integer of 64 bits as its text. Raises OverflowError beyond them."""
    number = int(member)
    if not -_INT64 <= number < _INT64:
        raise OverflowError
    return str(number)


_SCALARS: Final[dict[str, Callable[[Any], Any]]] = {
    "stringValue": str,
    "boolValue": lambda member: member if isinstance(member, bool) else str(member).lower() == "true",
    "intValue": _int64,
    "doubleValue": float,
    "bytesValue": lambda member: base64.b64encode(_from_base64(member)).decode(),
}
"""JSON name of a value's type → what makes a value of it that protobuf's JSON takes."""
