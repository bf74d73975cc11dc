"""OTLP requests in which something is wrong: each span is taken by itself, so that one does not fail the others.

Used only where parsing the whole request failed. What has one meaning is repaired; a span that
has none is refused with the reason, which `partial_success` carries, because exporters do not
send a request again that was answered with 400.

    repaired    text that is not UTF-8, lone surrogates, ids in base64, numbers as text, integers
                beyond 64 bits (kept as text), times in ISO 8601, nulls in lists, values nested too deeply (cut)
    refused     ids of another length, a time that is none, anything else that the format has no place for
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from otel_agent_telemetry.clock import parse_iso
from otel_agent_telemetry.errors import AgentTelemetryError

_IDS: Final = {"traceId": 16, "spanId": 8, "parentSpanId": 8}
_TIMES: Final = ("startTimeUnixNano", "endTimeUnixNano", "timeUnixNano")
_NUMBERS: Final = ("flags", "droppedAttributesCount", "droppedEventsCount", "droppedLinksCount")
_MAX_DEPTH: Final = 16
_MAX_REASON: Final = 200
_UINT64: Final = 1 << 64
_INT64: Final = 1 << 63
_HEX_DIGITS_A_BYTE: Final = 2


class SpanError(AgentTelemetryError):
    """A span that cannot be taken; the message names the rule that it breaks."""


def camel_case(name: str) -> str:
    """Return the JSON name of a protobuf field: `trace_id` → `traceId`."""
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


# --- JSON


def repaired_json(value: dict[str, Any]) -> tuple[ExportTraceServiceRequest, list[str]]:
    """Return what can be taken of a JSON request, and why each of the other spans cannot."""
    request, refused = ExportTraceServiceRequest(), []
    for group in _objects(value, "resourceSpans"):
        spans_of_resource = request.resource_spans.add()
        _parse_part(group.get("resource"), spans_of_resource.resource)
        for scope in _objects(group, "scopeSpans"):
            spans_of_scope = spans_of_resource.scope_spans.add()
            _parse_part(scope.get("scope"), spans_of_scope.scope)
            for span in _objects(scope, "spans"):
                try:
                    spans_of_scope.spans.append(_span_of_json(span))
                except SpanError as problem:
                    refused.append(str(problem))
    return request, refused


def _objects(value: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of a list under either spelling of its name; what is none is passed over."""
    found = next((value[key] for key in value if camel_case(key) == name), None)
    for item in found if isinstance(found, list) else ():
        if isinstance(item, dict):
            yield item


def _parse_part(value: Any, message: Message) -> None:
    """Fill a resource or scope; it stays empty where it cannot be read, since its spans can."""
    if isinstance(value, dict):
        try:
            ParseDict(_repaired(value), message, ignore_unknown_fields=True)
        except (SpanError, ParseError, TypeError, ValueError, AttributeError, RecursionError):
            message.Clear()


def _span_of_json(value: dict[str, Any]) -> trace_pb2.Span:
    """Return a span. Raises SpanError."""
    try:
        return ParseDict(_repaired(value), trace_pb2.Span(), ignore_unknown_fields=True)
    except (ParseError, TypeError, ValueError, AttributeError, RecursionError) as problem:
        raise SpanError(f"a span is not as OTLP has it: {str(problem)[:_MAX_REASON]}") from None


def _repaired(value: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a span, event, link, scope or resource with its fields repaired. Raises SpanError."""
    repaired: dict[str, Any] = {}
    for key, member in value.items():
        name = camel_case(key)
        if member is None:
            continue
        if name in _IDS:
            repaired[name] = _id_in_base64(name, member)
        elif name in _TIMES:
            repaired[name] = str(_nanoseconds(name, member))
        elif name in _NUMBERS:
            repaired[name] = _whole(name, member, _UINT64 >> 32)
        elif name == "attributes":
            repaired[name] = [_attribute(item) for item in _list(member) if isinstance(item, dict)]
        elif name in ("events", "links"):
            repaired[name] = [_repaired(item) for item in _list(member) if isinstance(item, dict)]
        else:
            repaired[name] = member
    return repaired


def _list(value: Any) -> list[Any]:
    """Return a list as it is; an empty one for anything else."""
    return value if isinstance(value, list) else []


def _id_in_base64(name: str, value: Any) -> str:
    """Return an id as protobuf's JSON has it, from hex digits or from base64. Raises SpanError."""
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
    raise SpanError(f"{name} is not {size * _HEX_DIGITS_A_BYTE} hexadecimal digits")


def _from_base64(text: str) -> bytes:
    """Return the bytes of a text in base64. Raises binascii.Error for what is none."""
    return base64.b64decode(text, validate=True)


def _nanoseconds(name: str, value: Any) -> int:
    """Return a time in nanoseconds since 1970, from a number, digits, or ISO 8601. Raises SpanError."""
    if isinstance(value, str) and not value.strip().lstrip("+-").replace(".", "", 1).isdigit():
        try:
            return parse_iso(value)
        except ValueError:
            raise SpanError(f"{name} is not a time") from None
    return _whole(name, value, _UINT64)


def _whole(name: str, value: Any, limit: int) -> int:
    """Return an integer from 0 to below `limit`, from a number or digits. Raises SpanError."""
    try:
        # Not by float: the nanoseconds of today do not fit into one.
        number = int(value) if not isinstance(value, str) else int(value.strip().partition(".")[0])
    except (TypeError, ValueError, OverflowError):
        raise SpanError(f"{name} is not a number") from None
    if not 0 <= number < limit:
        raise SpanError(f"{name} is not from 0 to {limit - 1}")
    return number


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


# --- protobuf


def repaired_protobuf(body: bytes) -> tuple[ExportTraceServiceRequest, list[str]]:
    """Return what can be taken of a protobuf request, and why each of the other spans cannot.

    Raises DecodeError when it is no protobuf message of this shape at all.
    """
    request, refused = ExportTraceServiceRequest(), []
    for group in _lenient("Groups").FromString(body).resource_spans:
        spans_of_resource = request.resource_spans.add()
        _copy_part(group.resource, spans_of_resource.resource)
        for scope in group.scope_spans:
            spans_of_scope = spans_of_resource.scope_spans.add()
            _copy_part(scope.scope, spans_of_scope.scope)
            for span in scope.spans:
                try:
                    spans_of_scope.spans.append(_strict(span, trace_pb2.Span()))
                except DecodeError:
                    refused.append("a span cannot be decoded, or its attributes are nested too deeply")
    return request, refused


def _copy_part(raw: bytes, message: Message) -> None:
    """Fill a resource or scope; it stays empty where it cannot be read, since its spans can."""
    try:
        message.CopyFrom(_strict(raw, type(message)()))
    except DecodeError:
        message.Clear()


def _strict(raw: bytes, message: Any) -> Any:
    """Return the message that the bytes hold, texts that are no UTF-8 repaired. Raises DecodeError."""
    try:
        message.ParseFromString(raw)
    except DecodeError:
        lenient = _lenient(message.DESCRIPTOR.full_name).FromString(raw)
        _decode_texts(lenient, message.DESCRIPTOR)
        message.ParseFromString(lenient.SerializeToString())
    return message


def _decode_texts(lenient: Any, strict: Any) -> None:
    """Replace what is no UTF-8 in fields that are texts in the format: U+FFFD for each wrong byte."""
    for field, value in lenient.ListFields():
        as_text = strict.fields_by_name[field.name]
        repeated = as_text.is_repeated
        if as_text.message_type is not None:
            for item in value if repeated else (value,):
                _decode_texts(item, as_text.message_type)
        elif as_text.type == as_text.TYPE_STRING:
            texts = [item.decode("utf-8", "replace").encode() for item in (value if repeated else (value,))]
            if repeated:
                value[:] = texts
            else:
                setattr(lenient, field.name, texts[0])


@cache
def _lenient(name: str) -> Any:
    """Return a message class that parses what the strict one refuses.

    By the full name of an OTLP message: the same fields, with bytes for texts. `Groups`: a request
    whose resources, scopes and spans are bytes, to be parsed one by one.
    """
    pool = descriptor_pool.DescriptorPool()
    for module in (common_pb2, resource_pb2, trace_pb2):
        # A copy with a pool of its own: changing the descriptors of the library would change them for the application.
        file = descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        for message in file.message_type:
            _texts_to_bytes(message)
        pool.Add(file)
    pool.Add(_groups_file())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def _texts_to_bytes(message: descriptor_pb2.DescriptorProto) -> None:
    """Make text fields of a message type byte fields, whose values need not be UTF-8."""
    for field in message.field:
        if field.type == field.TYPE_STRING:
            field.type = field.TYPE_BYTES
    for nested in message.nested_type:
        _texts_to_bytes(nested)


def _groups_file() -> descriptor_pb2.FileDescriptorProto:
    """Return the outer three levels of a request; what is in them stays bytes."""
    file = descriptor_pb2.FileDescriptorProto(name="groups.proto", syntax="proto3")
    levels = (
        ("Groups", (("resource_spans", 1, "Group", True),)),
        ("Group", (("resource", 1, None, False), ("scope_spans", 2, "Scope", True))),
        ("Scope", (("scope", 1, None, False), ("spans", 2, None, True))),
    )
    for name, fields in levels:
        message = file.message_type.add(name=name)
        for field_name, number, kind, repeated in fields:
            field = message.field.add(name=field_name, number=number)
            field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            field.type = field.TYPE_MESSAGE if kind else field.TYPE_BYTES
            if kind:
                field.type_name = f".{kind}"
    return file
