"""Which target (design, "Which target").

`TELEMETRY_API_URL` given: that service and nothing else. Not given: a service that holds
this base directory's database, or one at the default address that says it is ours; when
there is none, the database itself. Runs in the background: it may connect to loopback.
"""

from __future__ import annotations

import socket
from typing import Final
from urllib.parse import urlsplit

from otel_agent_telemetry.config import DEFAULT_API_URL, TelemetryConfig
from otel_agent_telemetry.delivery.outcome import Target

_CONNECT_S: Final = 0.2


def resolve_target(config: TelemetryConfig) -> Target:
    """The target that runs of this configuration go to now. Blocks for up to about a second."""
    url = config.api_url or local_service_url(config)
    if url is not None:
        from otel_agent_telemetry.delivery.http_target import HttpTarget

        return HttpTarget(url, config)
    if config.database_url is None:
        from otel_agent_telemetry.delivery.sqlite_target import SqliteTarget

        return SqliteTarget(config)
    from otel_agent_telemetry.delivery.database_target import DatabaseTarget

    return DatabaseTarget(config)


def local_service_url(config: TelemetryConfig) -> str | None:
    """URL of a service on this machine that takes this base directory's runs, if there is one."""
    if config.database_url is None:
        from otel_agent_telemetry.storage.writer_lock import WriterLock

        holder = WriterLock(config.db_path).holder()
        if holder is not None and holder.url:
            return holder.url
    if config.discover_service and _somebody_listens(DEFAULT_API_URL):
        from otel_agent_telemetry.delivery.http_target import is_our_service

        if is_our_service(DEFAULT_API_URL):
            return DEFAULT_API_URL
    return None


def _somebody_listens(url: str) -> bool:
    """A plain connect first: refused at once on loopback, and it spares the import of an HTTP client."""
    parts = urlsplit(url)
    try:
        address = (parts.hostname or "localhost", parts.port or 80)
        with socket.create_connection(address, timeout=_CONNECT_S):
            return True
    except OSError:
        return False
