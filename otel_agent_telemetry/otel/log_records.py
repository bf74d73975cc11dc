"""The log records of an OTLP request, each as an event: its name, its time, its ids and typed attributes. Pure.

Log records come from anywhere, and senders write the same thing in different places. So:

    name    the attribute `event.name`, else the record's `event_name`, else a body that is a name
    time    `time_unix_nano`, else `observed_time_unix_nano`, else the attribute `event.timestamp`
    ids     the trace and span ids as hexadecimal digits, "" for one that is absent, zero or of another length

Attributes are as they were received: what is message content is left out where an event is stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otel_agent_telemetry.clock import parse_iso
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.otlp_spans import value_of, values_of
from otel_agent_telemetry.patterns import lazy

_EVENT_TIME: Final = "event.timestamp"
_LATEST_NS: Final = 2**63 - 1  # in the year 2262: what a signed column holds
_TRACE_ID: Final = 16
_SPAN_ID: Final = 8
_DIGEST: Final = 16
_SEVERITIES: Final = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
_NAME: Final = lazy(r"[A-Za-z_][\w.:/-]{0,126}[A-Za-z0-9_]")
"""A body that is a name (`claude_code.user_prompt`); any other text says something."""


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """One log record as an event.

    `sender`: `service.name` of the resource, "" without one. `name`: "" where the record has none.
    `time_ns`: nanoseconds since 1970, 0 where it has none. `identity`: a digest of all that the record says; a
    repetition has the same, also in another encoding.
    """

    sender: str
    resource: Mapping[str, Any]
    scope: str
    name: str
    time_ns: int
    trace_id: str
    span_id: str
    attributes: Mapping[str, Any]
    body: Any
    severity: str
    identity: str


def read_logs(request: ExportLogsServiceRequest) -> Iterator[LoggedEvent]:
    """Yield the events of a request, in its order. No record is refused: what is odd about one is left away."""
    for group in request.resource_logs:
        resource = values_of(group.resource.attributes)
        sender = names.text_attribute(resource, names.SERVICE_NAME) or ""
        for scope in group.scope_logs:
            for record in scope.log_records:
                yield _event_of(record, sender, resource, scope.scope.name)


def _event_of(record: LogRecord, sender: str, resource: Mapping[str, Any], scope: str) -> LoggedEvent:
    """Return a record as an event."""
    attributes = values_of(record.attributes)
    body = value_of(record.body)
    name, time_ns = _name_of(record, attributes, body), _time_of(record, attributes)
    trace_id, span_id = _id_of(record.trace_id, _TRACE_ID), _id_of(record.span_id, _SPAN_ID)
    severity = record.severity_text or _severity_of(record.severity_number)
    return LoggedEvent(
        sender=sender,
        resource=resource,
        scope=scope,
        name=name,
        time_ns=time_ns,
        trace_id=trace_id,
        span_id=span_id,
        attributes=attributes,
        body=body,
        severity=severity,
        # Of what it says, not of its bytes: encodings differ, and collectors encode anew and add to the resource.
        identity=_digest(sender, scope, name, time_ns, trace_id, span_id, severity, body, sorted(attributes.items())),
    )


def _name_of(record: LogRecord, attributes: Mapping[str, Any], body: Any) -> str:
    """Return the event's name, "" for none."""
    # The attribute first: Codex's `event_name` is a line of its source.
    given = names.text_attribute(attributes, names.EVENT_NAME) or record.event_name
    if given:
        return given
    return body if isinstance(body, str) and _NAME.fullmatch(body) else ""


def _time_of(record: LogRecord, attributes: Mapping[str, Any]) -> int:
    """Return when it happened in nanoseconds, 0 where the record does not say it."""
    if given := record.time_unix_nano or record.observed_time_unix_nano:
        return min(given, _LATEST_NS)
    try:
        return max(parse_iso(names.text_attribute(attributes, _EVENT_TIME) or ""), 0)
    except ValueError:
        return 0


def _severity_of(number: int) -> str:
    """Return the name of a severity, "" for none: there are four numbers of each."""
    return _SEVERITIES[(number - 1) // 4] if 0 < number <= 4 * len(_SEVERITIES) else ""


def _id_of(value: bytes, size: int) -> str:
    """Return an id as hexadecimal digits; "" for none: zero bytes, which some senders write, or another length."""
    # Some senders put the digits themselves where protobuf has bytes.
    if len(value) == 2 * size:
        try:
            value = bytes.fromhex(value.decode("ascii"))
        except ValueError:
            return ""
    return value.hex() if len(value) == size and any(value) else ""


def _digest(*parts: Any) -> str:
    """Return what distinguishes a record from all others."""
    return blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=_DIGEST).hexdigest()
