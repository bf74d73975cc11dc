"""The three signals of OTLP: what their requests are made of, and where they come in.

A request of any signal is a list of groups, each with a resource and a list of scopes, each with a
list of items: spans, log records or metrics. Responses count the items that were rejected, of
metrics their data points.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.trace.v1 import trace_pb2


@cache
def camel_case(name: str) -> str:
    """Return the JSON name of a protobuf field: `trace_id` → `traceId`."""
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal of OTLP.

    `groups`, `scopes` and `items` are the names of the fields of the three levels, `item` is the message of an item
    and `item_name` what texts call it. `rejected` is the field of a response that counts what was refused.
    """

    name: str
    service: str
    request: type[Any]
    response: type[Any]
    groups: str
    scopes: str
    items: str
    item: type[Any]
    item_name: str
    rejected: str

    @property
    def path(self) -> str:
        """Return the path of the signal's requests over HTTP."""
        return f"/v1/{self.name}"

    @property
    def method(self) -> str:
        """Return the path of the signal's call over gRPC."""
        return f"/opentelemetry.proto.collector.{self.service}/Export"

    @property
    def title(self) -> str:
        """Return the name of the request's message."""
        return str(self.request.DESCRIPTOR.name)

    def items_of(self, request: Any) -> list[Any]:
        """Return every item of a request, in its order."""
        return [
            item
            for group in getattr(request, self.groups)
            for scope in getattr(group, self.scopes)
            for item in getattr(scope, self.items)
        ]

    def answer(self, rejected: int, message: str) -> Message:
        """Return the response to a request that is stored; with a message and no count it is a warning."""
        response: Message = self.response()
        # Where all is well the field stays unset, as the specification requires of a full success.
        if message:
            partial: Any = response.partial_success  # type: ignore[attr-defined]  # every Export…ServiceResponse has it
            setattr(partial, self.rejected, rejected)
            partial.error_message = message
        return response


TRACES: Final = Signal(
    name="traces",
    service="trace.v1.TraceService",
    request=trace_service_pb2.ExportTraceServiceRequest,
    response=trace_service_pb2.ExportTraceServiceResponse,
    groups="resource_spans",
    scopes="scope_spans",
    items="spans",
    item=trace_pb2.Span,
    item_name="span",
    rejected="rejected_spans",
)
LOGS: Final = Signal(
    name="logs",
    service="logs.v1.LogsService",
    request=logs_service_pb2.ExportLogsServiceRequest,
    response=logs_service_pb2.ExportLogsServiceResponse,
    groups="resource_logs",
    scopes="scope_logs",
    items="log_records",
    item=logs_pb2.LogRecord,
    item_name="log record",
    rejected="rejected_log_records",
)
METRICS: Final = Signal(
    name="metrics",
    service="metrics.v1.MetricsService",
    request=metrics_service_pb2.ExportMetricsServiceRequest,
    response=metrics_service_pb2.ExportMetricsServiceResponse,
    groups="resource_metrics",
    scopes="scope_metrics",
    items="metrics",
    item=metrics_pb2.Metric,
    item_name="metric",
    rejected="rejected_data_points",
)
SIGNALS: Final = (TRACES, LOGS, METRICS)
