"""Where the runs of a configuration are read, and the statistics over them.

`agent-telemetry stats` and `TelemetryClient.get_stats()` both ask `read_stats`, and every other
command that reads runs asks `service_with_runs` first, so they cannot disagree about the place.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from otel_agent_telemetry.buffer.health import read_health
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.local_service import local_service_url
from otel_agent_telemetry.errors import ConfigurationError, StorageError
from otel_agent_telemetry.interpreter import importing
from otel_agent_telemetry.storage.writer_lock import WriterLock
from otel_agent_telemetry.urls import without_credentials


@dataclass(frozen=True, slots=True)
class Statistics:
    """Figures over all runs, and why the first choice did not give them.

    `figures` are `{"total_runs", "agents", "recent_24h", …}`; None when there is no database
    yet, or when nothing could be read. `problem` is the error of the service, or of the
    database; None when the first choice answered.
    """

    figures: dict[str, Any] | None
    problem: StorageError | ConfigurationError | None = None


def service_with_runs(config: TelemetryConfig) -> str | None:
    """Return the URL of the service whose database has these runs; None when the local database has them.

    The configured service, else one that runs on this machine with another database, else
    the one that took the last delivery. A service over the local database, running or ended, is
    not named: reading the database gives the same runs. Blocks for up to about a second.
    """
    if config.api_url:
        return config.api_url
    if _service_over_database(config) is not None:
        return None
    if (url := local_service_url(config)) is not None:
        return url
    target = read_health(config.buffer_dir).target
    is_service = target.startswith(("http://", "https://"))
    return target if is_service and target != _last_service_over_database(config) else None


def read_stats(config: TelemetryConfig) -> Statistics:
    """Return the statistics of the service that has the runs, else of the local database.

    Never raises for a service or a database that cannot be read. Blocks for one request and
    one query at most.
    """
    other = service_with_runs(config)
    url = other or _service_over_database(config)
    problem: StorageError | ConfigurationError | None = None
    if url is not None:
        try:
            return Statistics(_stats_of_service(url, config))
        except (StorageError, ConfigurationError) as failed:
            # A service over the local database has the figures that are read below.
            problem = failed if other else None
    try:
        return Statistics(_stats_of_database(config), problem)
    except (StorageError, ConfigurationError) as failed:
        return Statistics(None, problem or failed)


def _service_over_database(config: TelemetryConfig) -> str | None:
    """Return the URL of the service that writes the configured SQLite file, None when there is none."""
    holder = None if config.database_url else WriterLock(config.db_path).holder()
    return None if holder is None else holder.url


def _last_service_over_database(config: TelemetryConfig) -> str | None:
    """Return the URL of the service that wrote the configured SQLite file last; None when it was no service."""
    holder = None if config.database_url else WriterLock(config.db_path).last_holder()
    return None if holder is None or holder.url is None else without_credentials(holder.url)


def _stats_of_service(url: str, config: TelemetryConfig) -> dict[str, Any]:
    """Return the figures of a service. Raises StoreUnavailableError."""
    with importing():
        from otel_agent_telemetry.delivery.http_calls import read_json, unexpected_answer

    value = read_json(url, config, "/metrics")
    if not _has_figures(value):
        raise unexpected_answer(without_credentials(url))
    return value


def _has_figures(metrics: Mapping[str, Any]) -> bool:
    """Return whether the totals and counts are there; an older service does not count by status."""
    totals = all(isinstance(metrics.get(name), int) for name in ("total_runs", "recent_24h"))
    return totals and _are_counts(metrics.get("agents")) and _are_counts(metrics.get("statuses", {}))


def _are_counts(value: Any) -> bool:
    """Return whether an answer's member maps names to counts."""
    return isinstance(value, dict) and all(isinstance(count, int) for count in value.values())


def _stats_of_database(config: TelemetryConfig) -> dict[str, Any] | None:
    """Return the figures of the database of a configuration; None where there is none."""
    with importing():
        from otel_agent_telemetry.storage.run_stats import run_stats
        from otel_agent_telemetry.storage.store import reading_database

    with reading_database(config) as connection:
        return None if connection is None else run_stats(connection, now_ns=time.time_ns())
