"""Statistics over runs, from wherever runs go: the service, else the local database."""

from __future__ import annotations

import logging
import time
from typing import Any

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.resolve import local_service_url
from otel_agent_telemetry.errors import ConfigurationError, StorageError

_log = logging.getLogger(__name__)


def read_stats(config: TelemetryConfig) -> dict[str, Any] | None:
    """`{"total_runs", "agents", "recent_24h", …}` or None when neither answers. Blocks."""
    url = config.api_url or local_service_url(config)
    if url is not None:
        from otel_agent_telemetry.delivery.http_target import HttpTarget

        target = HttpTarget(url, config)
        try:
            stats = target.stats()
        finally:
            target.close()
        if stats is not None:
            return stats
        _log.debug("the service at %s gives no statistics", target.name)
    return _from_database(config)


def _from_database(config: TelemetryConfig) -> dict[str, Any] | None:
    from otel_agent_telemetry.storage.engine import make_read_engine, reading
    from otel_agent_telemetry.storage.queries import run_stats

    if config.database_url is None and not config.db_path.exists():
        return None
    engine = None
    try:
        engine = make_read_engine(config)
        with reading(engine, "reading statistics") as connection:
            return run_stats(connection, now_ns=time.time_ns())
    except (StorageError, ConfigurationError) as problem:
        _log.error("statistics: %s", problem)
        return None
    finally:
        if engine is not None:
            engine.dispose()
