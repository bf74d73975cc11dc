"""OTLP trace requests for the tests, in both of their encodings, and the rows that come of them."""

from __future__ import annotations

import base64
import gzip
import zlib

import orjson
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric, NumberDataPoint
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_agent_telemetry.run_id import span_event_id
from otel_agent_telemetry.service.otlp_signals import SIGNALS, TRACES, camel_case
from otel_agent_telemetry.storage.engine import make_engine, reading
from otel_agent_telemetry.storage.tables import metadata
from tests.service.service_cases import SECOND, T0

TRACE = bytes.fromhex("0af7651916cd43dd8448eb211c80319c")
PROTOBUF = "application/x-protobuf"
JSON = "application/json"
ENCODINGS = [PROTOBUF, JSON]
_IDS = ("traceId", "spanId", "parentSpanId")
_KINDS = [
    *((bool, "bool_value"), (int, "int_value"), (float, "double_value")),
    *((bytes, "bytes_value"), (str, "string_value")),
]
_COMPRESS = {None: lambda body: body, "gzip": gzip.compress, "deflate": zlib.compress}


def span_id(number):
    return number.to_bytes(8, "big")


def run_of(number, trace=TRACE, start_ns=None):
    """The event id of the run that a span is."""
    return span_event_id(trace.hex(), span_id(number).hex(), T0 + number * SECOND if start_ns is None else start_ns)


def any_value(value):
    """The message for a plain value; nothing set for None."""
    for kind, name in _KINDS:
        if isinstance(value, kind):
            return AnyValue(**{name: value})
    if isinstance(value, list):
        return AnyValue(array_value={"values": [any_value(item) for item in value]})
    return AnyValue(kvlist_value={"values": pairs(value)}) if isinstance(value, dict) else AnyValue()


def pairs(values):
    return [KeyValue(key=key, value=any_value(value)) for key, value in values.items()]


def span(number, parent=None, *, attributes=None, events=(), seconds=1, trace=TRACE, **more):
    """A span that starts `number` seconds after T0. Events: names and their attributes."""
    start = T0 + number * SECOND
    actual = [
        Span.Event(name=name, time_unix_nano=start + at, attributes=pairs(values))
        for at, (name, values) in enumerate(events)
    ]
    values = {
        "trace_id": trace,
        "span_id": span_id(number),
        "parent_span_id": b"" if parent is None else span_id(parent),
        "name": f"span {number}",
        "kind": Span.SPAN_KIND_INTERNAL,
        "start_time_unix_nano": start,
        "end_time_unix_nano": start + seconds * SECOND,
        "attributes": pairs(attributes or {}),
        "events": actual,
        **more,
    }
    return Span(**values)


def request(*spans, resource=None):
    attributes = pairs({"service.name": "tests"} if resource is None else resource)
    group = {"resource": {"attributes": attributes}, "scope_spans": [{"spans": spans}]}
    return ExportTraceServiceRequest(resource_spans=[group])


def log(seconds, name="note", *, span=None, attributes=None, trace=TRACE, **more):
    """A log record of a span, by its number, `seconds` after T0."""
    values = {
        "time_unix_nano": T0 + round(seconds * SECOND),
        "event_name": name,
        "trace_id": trace,
        "span_id": b"" if span is None else span_id(span),
        "attributes": pairs(attributes or {}),
        **more,
    }
    return LogRecord(**values)


def logs(*records, resource=None):
    attributes = pairs({"service.name": "tests"} if resource is None else resource)
    group = {"resource": {"attributes": attributes}, "scope_logs": [{"log_records": records}]}
    return ExportLogsServiceRequest(resource_logs=[group])


def metric(name, *points, delta=True):
    """A sum of points `(start, time, value, attributes)`, times in seconds after T0."""
    made = [
        NumberDataPoint(
            start_time_unix_nano=T0 + start * SECOND,
            time_unix_nano=T0 + time * SECOND,
            as_double=value,
            attributes=pairs(attributes),
        )
        for start, time, value, attributes in points
    ]
    return Metric(name=name, sum={"data_points": made, "aggregation_temporality": 1 if delta else 2})


def metrics(*given, resource=None):
    attributes = pairs({"service.name": "claude-code"} if resource is None else resource)
    group = {"resource": {"attributes": attributes}, "scope_metrics": [{"metrics": given}]}
    return ExportMetricsServiceRequest(resource_metrics=[group])


def otlp_json(message):
    """A request in OTLP's own JSON: camelCase, ids in hex, enums as numbers (OTLP 1.x, "JSON Protobuf Encoding")."""
    value = MessageToDict(message, use_integers_for_enums=True)
    _ids_in_hex(value)
    return orjson.dumps(value)


def _ids_in_hex(node):
    if isinstance(node, dict):
        for name, value in node.items():
            if name in _IDS:
                node[name] = base64.b64decode(value).hex()
            else:
                _ids_in_hex(value)
    elif isinstance(node, list):
        for value in node:
            _ids_in_hex(value)


def send_body(service, body, kind, *, path="/v1/traces", compression=None, **headers):
    if compression is not None:
        headers["Content-Encoding"] = compression
    headers = {"Content-Type": kind, **headers}
    return service.client.post(path, content=_COMPRESS[compression](body), headers=headers)


def send(service, message, kind=PROTOBUF, **more):
    """Send a request of any signal in an encoding; the answer, which must be a good one."""
    body = message.SerializeToString() if kind == PROTOBUF else otlp_json(message)
    signal = next(signal for signal in SIGNALS if isinstance(message, signal.request))
    answer = send_body(service, body, kind, path=signal.path, **more)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == kind
    assert "content-encoding" not in answer.headers
    return answer


def response_of(answer, signal=TRACES):
    """The message of an answer in either encoding: `(number of rejected items, error message)`."""
    if answer.headers["content-type"] == PROTOBUF:
        actual = signal.response.FromString(answer.content).partial_success
        return getattr(actual, signal.rejected), actual.error_message
    actual = answer.json().get("partialSuccess", {})
    return int(actual.get(camel_case(signal.rejected), 0)), actual.get("errorMessage", "")


def rows_of(service):
    """Table → all its rows but for their numbers and for what came in the same request, in order."""
    engine = make_engine(service.settings)
    with reading(engine, "reading") as connection:
        found = {
            table.name: sorted(
                (
                    tuple(value for name, value in row._mapping.items() if name not in ("id", "parent_start"))
                    for row in connection.execute(table.select())
                ),
                key=repr,
            )
            for table in metadata.sorted_tables
            if table.name not in ("run_counts", "run_hours", "changed_hours", "store_facts")
            and not table.name.endswith("_periods")
        }
    engine.dispose()
    return found


def below(service, number, what, trace=TRACE):
    """The events or spans of the run that a span is."""
    answer = service.client.get(f"/api/v1/runs/{run_of(number, trace)}/{what}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def run(service, number=1, trace=TRACE, start_ns=None):
    """The run that a span is, as it is read."""
    answer = service.client.get(f"/api/v1/runs/{run_of(number, trace, start_ns)}")
    assert answer.status_code == 200, answer.text
    return answer.json()
