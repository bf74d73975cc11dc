"""OTLP requests in protobuf in which something is wrong: each item is taken by itself, so that one spares the others.

Used only where parsing the whole request failed. Text that is not UTF-8 is repaired; a span, log
record or metric that cannot be decoded all the same is refused, see `otlp_repair`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from otel_agent_telemetry.service.otlp_signals import Signal


def repaired_protobuf(body: bytes, signal: Signal) -> tuple[Any, list[str]]:
    """Return what can be taken of a protobuf request, and why each of the other items cannot.

    Raises DecodeError when it is no protobuf message of this shape at all.
    """
    request, refused = signal.request(), []
    for group in _lenient("Groups").FromString(body).groups:
        of_resource = getattr(request, signal.groups).add()
        _copy_part(group.resource, of_resource.resource)
        for scope in group.scopes:
            of_scope = getattr(of_resource, signal.scopes).add()
            _copy_part(scope.scope, of_scope.scope)
            for item in scope.items:
                try:
                    getattr(of_scope, signal.items).append(_strict(item, signal.item()))
                except DecodeError:
                    refused.append(f"a {signal.item_name} cannot be decoded, or its values are nested too deeply")
    return request, refused


def _copy_part(raw: bytes, message: Message) -> None:
    """Fill a resource or scope; it stays empty where it cannot be read, since its items can."""
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
    of any signal whose resources, scopes and items are bytes, to be parsed one by one.
    """
    pool = descriptor_pool.DescriptorPool()
    for module in (common_pb2, resource_pb2, trace_pb2, logs_pb2, metrics_pb2):
        # A copy with a pool of its own: changing the descriptors of the library would change them for the application.
        file = descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        for message in file.message_type:
            _texts_to_bytes(message)
        pool.Add(file)
    pool.Add(_groups_file())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def _texts_to_bytes(message: descriptor_pb2.DescriptorProto) -> None:
    """Make text fields of a message type byte fields, whose values need not be UTF-8."""
    # On the wire both are the same; only of a text does the parser check that it is UTF-8.
    for field in message.field:
        if field.type == field.TYPE_STRING:
            field.type = field.TYPE_BYTES
    for nested in message.nested_type:
        _texts_to_bytes(nested)


def _groups_file() -> descriptor_pb2.FileDescriptorProto:
    """Return the outer three levels of a request; what is in them stays bytes.

    The fields have the same numbers in the requests of all signals.
    """
    file = descriptor_pb2.FileDescriptorProto(name="groups.proto", syntax="proto3")
    levels = (
        ("Groups", (("groups", 1, "Group", True),)),
        ("Group", (("resource", 1, None, False), ("scopes", 2, "Scope", True))),
        ("Scope", (("scope", 1, None, False), ("items", 2, None, True))),
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
