"""Metrics of the hosts that deliver to a service: how far each is behind, and when it was last heard of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from otel_agent_telemetry.storage.deliverers import Deliverer

MAX_DELIVERERS: Final = 500
"""How many hosts have series of their own: those that were heard of last."""
_LABELS: Final = ("host", "base_dir")
_GAUGES: Final = (
    ("lag_seconds", "Age of the oldest record that waits on the host, 0 without one.", "lag"),
    ("last_contact_seconds", "Seconds since the last request of the host.", "age"),
    ("backlog_records", "Records that wait on the host, estimated.", "backlog_records"),
    ("backlog_bytes", "Bytes that wait on the host.", "backlog_bytes"),
    ("open_runs", "Runs that are open on the host.", "open_runs"),
    ("rejected_records", "Records of the host that were refused for good.", "rejected"),
    ("lost_records", "Records of the host that no file took.", "lost"),
)


@dataclass(frozen=True, slots=True)
class DelivererMetrics(Collector):
    """Gauges for each host and base directory, read from the database at each scrape."""

    deliverers: Sequence[Deliverer]
    now_ns: int

    def collect(self) -> Iterator[Metric]:
        """Yield one gauge for each figure, with a series for each deliverer."""
        for name, help_text, member in _GAUGES:
            gauge = GaugeMetricFamily(f"agent_telemetry_deliverer_{name}", help_text, labels=_LABELS)
            for one in self.deliverers:
                gauge.add_metric((one.host, one.base_dir), self._value(one, member))
            yield gauge

    def _value(self, one: Deliverer, member: str) -> float:
        """Return a figure of a deliverer."""
        if member == "lag":
            return one.lag_s(self.now_ns)
        return one.contact_age_s(self.now_ns) if member == "age" else float(getattr(one, member))


def summary_of(deliverers: Sequence[Deliverer], now_ns: int) -> dict[str, Any]:
    """Return what `/metrics` says of all deliverers together, in JSON."""
    return {
        "total": len(deliverers),
        "silent": sum(one.is_silent(now_ns) for one in deliverers),
        "lag_s": round(max((one.lag_s(now_ns) for one in deliverers), default=0.0), 3),
        "backlog_records": sum(one.backlog_records for one in deliverers),
        "backlog_bytes": sum(one.backlog_bytes for one in deliverers),
        "rejected": sum(one.rejected for one in deliverers),
        "lost": sum(one.lost for one in deliverers),
    }
