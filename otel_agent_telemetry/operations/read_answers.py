"""What agents cost and did, read from the place that has the runs: a service, else the local database."""

from __future__ import annotations

from typing import Any, Final

from otel_agent_telemetry.clock import parse_iso
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.http_calls import read_json
from otel_agent_telemetry.delivery.stats import service_with_runs
from otel_agent_telemetry.storage.answers import answers
from otel_agent_telemetry.storage.figure_window import begin_ns
from otel_agent_telemetry.storage.pricing import use_own_prices
from otel_agent_telemetry.storage.store import reading_database

LIMIT: Final = 100


def read_answers(config: TelemetryConfig, by: str, *, since: str, now_ns: int) -> dict[str, Any] | None:
    """Return the answer of `GET /api/v1/stats` for runs created since a time; None when there is no database yet.

    Raises StorageError, and ConfigurationError. Blocks for one request or some queries.
    """
    if (url := service_with_runs(config)) is not None:
        return read_json(url, config, "/api/v1/stats", {"by": by, "since": since})
    use_own_prices(config.prices)
    with reading_database(config) as connection:
        if connection is None:
            return None
        since_ns = begin_ns((now_ns - parse_iso(since)) / 1e9, now_ns)
        return answers(connection, by, since_ns=since_ns, at_ns=now_ns, limit=LIMIT).to_json()
