"""The metrics of the service in Prometheus' text format.

Counters and histograms are those of this process; `agent_telemetry_runs` is read from the
database, so with several services take it from one of them, or take the maximum. Labels have
few values: routes are templates, and all but the hundred agents with the most runs share the
label "(others)".
"""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from otel_agent_telemetry.service.connection_limits import REFUSABLE, REFUSALS
from otel_agent_telemetry.service.writer import GroupWriter

_ITEMS: Final = {"traces": "spans", "logs": "log_records", "metrics": "data_points"}
_COMMIT_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_ITEM_BUCKETS: Final = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 5000)
# Names of agents come from clients: each would be a time series of its own, and Prometheus keeps them all.
_MAX_AGENTS: Final = 100
_MAX_LABEL: Final = 200
_OTHERS: Final = "(others)"


class ServiceMetrics:
    """Counters and histograms of this process. Safe under threads: the event loop and the writer both report."""

    def __init__(self, writer: GroupWriter) -> None:
        self.registry = CollectorRegistry()
        self._requests = Histogram(
            "agent_telemetry_http_request_duration_seconds",
            "Requests by method, route and status.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._commits = Histogram(
            "agent_telemetry_commit_duration_seconds",
            "From the beginning of a transaction to its commit.",
            buckets=_COMMIT_BUCKETS,
            registry=self.registry,
        )
        self._items = Histogram(
            "agent_telemetry_commit_records",
            "Records that were committed together.",
            buckets=_ITEM_BUCKETS,
            registry=self.registry,
        )
        self.received = {
            signal: Counter(
                f"agent_telemetry_otlp_{items}",
                f"{items.capitalize().replace('_', ' ')} received over OTLP.",
                ("result",),
                registry=self.registry,
            )
            for signal, items in _ITEMS.items()
        }
        """The counters of what comes over OTLP, by the name of the signal."""
        # Finding a histogram by its labels takes a lock and two conversions; there are few of them.
        self._durations_of = cache(lambda method, route, status: self._requests.labels(method, route, str(status)))
        self.registry.register(_WriterCollector(writer))
        self.registry.register(_RefusalsCollector())
        writer.stats.on_commit = self._on_commit

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Record one request: method, route template, status, duration in seconds."""
        # Clients may invent methods, and every label value is a series that is kept for ever.
        label = method if method in {"GET", "POST", "PATCH", "HEAD", "OPTIONS", "PUT", "DELETE"} else "other"
        self._durations_of(label, route, status).observe(seconds)

    def _on_commit(self, seconds: float, items: int) -> None:
        """Count a commit: its duration and its number of records."""
        self._commits.observe(seconds)
        self._items.observe(items)


class _WriterCollector(Collector):
    """The writer's figures, read when they are asked for."""

    def __init__(self, writer: GroupWriter) -> None:
        self._writer = writer

    def collect(self) -> Iterator[Metric]:
        """Yield the writer's queue length and counts as they are now."""
        stats = self._writer.stats
        yield GaugeMetricFamily("agent_telemetry_write_queue_records", "Records waiting.", self._writer.waiting)
        yield CounterMetricFamily("agent_telemetry_written_records", "Records committed.", stats.items)
        yield CounterMetricFamily("agent_telemetry_failed_writes", "Requests that could not be stored.", stats.failed)


class _RefusalsCollector(Collector):
    """What the limits of connections ended, read when it is asked for."""

    def collect(self) -> Iterator[Metric]:
        """Yield the counter, with a sample of each limit: a series that appears with its first event has no rate."""
        refused = CounterMetricFamily(
            "agent_telemetry_refused_connections", "Connections and requests that a limit ended.", labels=("limit",)
        )
        for limit in REFUSABLE:
            refused.add_metric((limit,), REFUSALS[limit])
        yield refused


@dataclass(frozen=True, slots=True)
class StoredRunMetrics(Collector):
    """Metrics of the stored runs, read from the database at each scrape.

    `runs`: number by agent and status. `oldest_open_s`: when the oldest open run was created,
    in Unix seconds; None when none is open. `logs_not_kept`: log records of no run, by their sender.
    """

    runs: Mapping[tuple[str, str], int]
    recent_24h: int
    oldest_open_s: float | None
    logs_not_kept: Mapping[str, int]

    def collect(self) -> Iterator[Metric]:
        """Yield them as gauges."""
        # An alert needs a metric that is there in both cases; one that vanishes is easily taken for a failed scrape.
        yield _database_up(1)
        runs = GaugeMetricFamily("agent_telemetry_runs", "Stored runs.", labels=("agent_name", "status"))
        for (agent, status), number in bound_labels(self.runs).items():
            runs.add_metric((agent, status), number)
        yield runs
        yield GaugeMetricFamily("agent_telemetry_runs_last_24h", "Runs created in a day.", self.recent_24h)
        not_kept = CounterMetricFamily(
            "agent_telemetry_logs_not_kept", "Log records that named no run.", labels=("sender",)
        )
        for sender, records in self.logs_not_kept.items():
            not_kept.add_metric((sender[:_MAX_LABEL],), records)
        yield not_kept
        if self.oldest_open_s is not None:
            yield GaugeMetricFamily(
                "agent_telemetry_oldest_open_run_timestamp_seconds",
                "When the oldest run that is still running was created.",
                self.oldest_open_s,
            )


class DatabaseDownMetrics(Collector):
    """The replacement of `StoredRunMetrics` while the database cannot be read."""

    def collect(self) -> Iterator[Metric]:
        """Yield `agent_telemetry_database_up` 0."""
        yield _database_up(0)


def _database_up(value: int) -> Metric:
    """Return the gauge that is 1 while the database can be read."""
    return GaugeMetricFamily("agent_telemetry_database_up", "Whether the database could be read just now.", value)


@dataclass(frozen=True, slots=True)
class BufferMetrics(Collector):
    """Metrics of the local buffer: bytes waiting for delivery, rejected records, closed runs."""

    waiting_bytes: int
    rejected: int
    closed_runs: int

    def collect(self) -> Iterator[Metric]:
        """Yield them as they are on disk."""
        yield GaugeMetricFamily("agent_telemetry_buffer_bytes", "Waiting in the local buffer.", self.waiting_bytes)
        yield GaugeMetricFamily("agent_telemetry_buffer_rejected", "Set aside as refused.", self.rejected)
        yield CounterMetricFamily(
            "agent_telemetry_closed_runs", "Runs of killed processes on this host, closed as failed.", self.closed_runs
        )


def bound_labels(runs: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    """Return the counts with agent names cut to 200 characters and all but the 100 largest agents summed up."""
    totals: Counts[str] = Counts()
    for (agent, _), number in runs.items():
        totals[agent[:_MAX_LABEL]] += number
    # By name among equals, so that an agent does not change its series from one scrape to the next.
    named = set(sorted(totals, key=lambda agent: (-totals[agent], agent))[:_MAX_AGENTS])
    summed: Counts[tuple[str, str]] = Counts()
    for (agent, status), number in runs.items():
        label = agent[:_MAX_LABEL]
        summed[label if label in named else _OTHERS, status] += number
    return summed


class _CombinedCollector:
    """Several registries and collectors as one."""

    def __init__(self, parts: Iterable[Any]) -> None:
        self._parts = tuple(parts)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of every part."""
        for part in self._parts:
            yield from part.collect()


def exposition(accept: str, *parts: Any) -> tuple[bytes, str]:
    """Return the metrics of all parts and their Content-Type, in the format that the Accept header prefers."""
    encode, content_type = choose_encoder(accept)
    return encode(_CombinedCollector(parts)), content_type
