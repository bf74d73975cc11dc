"""The metrics of an OTLP request, as plain data points. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric

DELTA: Final = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
_KINDS: Final = ("gauge", "sum", "histogram", "exponential_histogram", "summary")


def points_of(metric: Metric) -> Sequence[Any]:
    """Return the data points of a metric of any kind; none of one without data."""
    kind = metric.WhichOneof("data")
    # A newer version of the format may have kinds that are not known here.
    return getattr(metric, kind).data_points if kind in _KINDS else ()


def is_delta(metric: Metric) -> bool:
    """Return whether the values of a metric are the change since the last time, and not the sum since the start."""
    kind = metric.WhichOneof("data")
    return kind is not None and getattr(getattr(metric, kind), "aggregation_temporality", None) == DELTA


def is_gauge(metric: Metric) -> bool:
    """Return whether a metric's values are those of a moment, which add up to nothing."""
    return metric.WhichOneof("data") == "gauge"


def value_of_point(point: Any) -> float:
    """Return the value of a data point: its number, or the sum of a histogram or summary."""
    # By its fields: points of gauges and sums are one message, those of the other kinds have a sum.
    if hasattr(point, "as_int"):
        return float(point.as_int if point.WhichOneof("value") == "as_int" else point.as_double)
    return float(point.sum)
