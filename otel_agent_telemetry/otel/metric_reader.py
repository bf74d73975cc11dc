"""From an OTLP metrics request to what is stored of it: what coding agents count of their sessions. Pure.

Which metrics count what stands in the table of conventions (`conventions.session_metrics`). Every
other data point is taken and not stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import isfinite
from typing import Any, Final

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.conventions.session_metrics import MODELS, SESSION_IDS, SESSION_METRICS, SessionMetric
from otel_agent_telemetry.otel.otlp_metrics import is_delta, is_gauge, points_of, value_of_point
from otel_agent_telemetry.otel.otlp_spans import values_of
from otel_agent_telemetry.otel.received import Received
from otel_agent_telemetry.redaction import kept_name
from otel_agent_telemetry.storage.session_metrics import CUMULATIVE, SessionFigure
from otel_agent_telemetry.storage.store import WriteBatch
from otel_agent_telemetry.wire import dumps_text

_LATEST_NS: Final = 2**63 - 1  # in the year 2262: what a signed column holds
_DIGEST: Final = 16
_MAX_NAME: Final = 255


@dataclass(frozen=True, slots=True)
class ReceivedPoint:
    """A data point, its metric, and the resource that it is of."""

    point: Any
    metric: Metric
    resource: Mapping[str, Any]


class MetricReader:
    """Reads metrics requests. Safe under threads."""

    def read(self, request: ExportMetricsServiceRequest) -> Received[ReceivedPoint]:
        """Return every data point of a request."""
        received: Received[ReceivedPoint] = Received(lambda received: received.point.time_unix_nano)
        for group in request.resource_metrics:
            resource = values_of(group.resource.attributes)
            for scope in group.scope_metrics:
                for metric in scope.metrics:
                    received.items += [ReceivedPoint(point, metric, resource) for point in points_of(metric)]
        return received

    def nodes_of(self, items: Sequence[ReceivedPoint], received: Received[ReceivedPoint]) -> list[SessionFigure]:
        """Return what these data points count; one whose value is no number is refused."""
        figures: list[SessionFigure] = []
        for item in items:
            # Most metrics are of no agent: one look in the table, and nothing of them is decoded.
            counted = SESSION_METRICS.get(item.metric.name)
            if counted is None or is_gauge(item.metric):
                continue
            if not isfinite(value_of_point(item.point)):
                received.refuse(f"metric {item.metric.name}: a value is no number")
                continue
            figures += _figures_of(item, counted)
        return figures

    def batch_of(self, nodes: Sequence[SessionFigure]) -> WriteBatch:
        """Return what is to be written of some figures."""
        return WriteBatch(figures=nodes)

    def name_of(self, node: SessionFigure) -> str:
        """Return what a message calls a figure."""
        return f"{node.figure} of {node.sender}"


def _figures_of(item: ReceivedPoint, counted: SessionMetric) -> Iterator[SessionFigure]:
    """Yield the figures of one data point."""
    point, attributes = item.point, values_of(item.point.attributes)
    figures = counted.values.get(str(attributes.get(counted.by)), ()) if counted.by else counted.figures
    value = value_of_point(point)
    if not figures or not value:  # zero adds nothing, and idle programs send it every minute
        return
    sender = _name(item.resource.get(names.SERVICE_NAME))
    session = _first(SESSION_IDS, attributes, item.resource)
    time_ns = min(point.time_unix_nano, _LATEST_NS)
    for figure in figures:
        yield SessionFigure(
            series=_series(sender, session, item.metric.name, figure, attributes),
            start_ns=min(point.start_time_unix_nano, _LATEST_NS),
            # A change is a row of its own, so that its repetition is the same row and the next change is not.
            point_ns=time_ns if is_delta(item.metric) else CUMULATIVE,
            time=iso_utc(time_ns),
            sender=sender,
            session_id=session,
            figure=figure,
            model=_first(MODELS, attributes),
            value=value,
        )


def _series(sender: str, session: str, metric: str, figure: str, attributes: Mapping[str, Any]) -> str:
    """Return what distinguishes a series of data points from all others, whatever the order of its attributes."""
    # Without the resource: a collector on one of two ways adds to it, and the series is the same.
    parts = dumps_text(
        [sender, session, metric, figure, sorted((key, repr(value)) for key, value in attributes.items())]
    )
    return blake2b(parts.encode("utf-8", "replace"), digest_size=_DIGEST).hexdigest()


def _first(keys: Sequence[str], *places: Mapping[str, Any]) -> str:
    """Return the first of these attributes that is there, as a text; "" for none."""
    found = (place[key] for place in places for key in keys if place.get(key))
    return _name(next(found, ""))


def _name(value: Any) -> str:
    """Return a name that a sender chose as it may be stored: of a bounded length, secrets masked."""
    return kept_name(str(value or "")[:_MAX_NAME])
