"""What coding agents sent, as the parts that are stored of it: one log record or one span each.

From `captures/`, read as a service reads a request; without a door, so that a test may send them in any order.
"""

from __future__ import annotations

import base64
import json
from functools import cache
from pathlib import Path

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_agent_telemetry.otel.log_records import read_logs
from otel_agent_telemetry.otel.receiver import SpanReceiver
from otel_agent_telemetry.otel.turn_records import TurnReader
from otel_agent_telemetry.recording.active_runs import ResourceDefaults
from otel_agent_telemetry.storage.store import WriteBatch

CAPTURES = Path(__file__).parent / "captures"
SILENCE_S = 600
RECEIVED_NS = 1_900_000_000 * 10**9
"""Long after the captures were made, so that each of their turns is silent."""


def _with_bytes(value):
    """OTLP's JSON has ids in hexadecimal digits where protobuf's has bytes in base 64."""
    if isinstance(value, list):
        return [_with_bytes(one) for one in value]
    if not isinstance(value, dict):
        return value
    ids = ("traceId", "spanId", "parentSpanId")
    return {
        key: base64.b64encode(bytes.fromhex(one)).decode() if key in ids else _with_bytes(one)
        for key, one in value.items()
    }


def turn_reader(**around):
    return TurnReader(around=ResourceDefaults(**around), silence_s=SILENCE_S)


def records_of_request(body, reader=None, received_ns=RECEIVED_NS):
    """The records of known agents in the body of a logs request."""
    request = json_format.ParseDict(_with_bytes(body), ExportLogsServiceRequest(), ignore_unknown_fields=True)
    reader = reader or turn_reader()
    found = [reader.read(event, received_ns=received_ns) for event in read_logs(request)]
    return [record for record in found if record is not None]


@cache
def captured_records(*names):
    bodies = [json.loads((CAPTURES / f"{name}.json").read_text())["body"] for name in names]
    return tuple(record for body in bodies for record in records_of_request(body))


@cache
def captured_nodes(*names):
    receiver = SpanReceiver(runs="root", around=ResourceDefaults())
    nodes = []
    for name in names:
        body = _with_bytes(json.loads((CAPTURES / f"{name}.json").read_text())["body"])
        received = receiver.read(json_format.ParseDict(body, ExportTraceServiceRequest(), ignore_unknown_fields=True))
        nodes += receiver.nodes_of(received.items, received)
    return tuple(nodes)


def batch_of(*items):
    """One transaction with some records and spans."""
    nodes = [item for item in items if hasattr(item, "span")]
    records = [item for item in items if not hasattr(item, "span")]
    return WriteBatch([node.state for node in nodes if node.state is not None], nodes=nodes, turn_records=records)
