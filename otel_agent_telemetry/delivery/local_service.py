"""Finding a service on this machine that takes the runs of a base directory, without a URL in the settings."""

from __future__ import annotations

import socket
from typing import Final
from urllib.parse import urlsplit

from otel_agent_telemetry.config import DEFAULT_API_URL, TelemetryConfig
from otel_agent_telemetry.interpreter import importing

_CONNECT_S: Final = 0.2


def local_service_url(config: TelemetryConfig) -> str | None:
    """Return the URL of a service on this machine that takes this base directory's runs; None without one.

    The holder of the database's lock is asked first: it is right whatever port it listens on.
    """
    if config.database_url is None:
        with importing():
            from otel_agent_telemetry.storage.writer_lock import WriterLock

        holder = WriterLock(config.db_path).holder()
        if holder is not None and holder.url:
            return holder.url
    if config.discover_service and _somebody_listens(DEFAULT_API_URL):
        with importing():
            from otel_agent_telemetry.delivery.http_target import is_our_service

        if is_our_service(DEFAULT_API_URL):
            return DEFAULT_API_URL
    return None


def _somebody_listens(url: str) -> bool:
    """Return whether a plain connect succeeds; on loopback it is refused at once, and needs no HTTP client."""
    parts = urlsplit(url)
    # As bytes: for a name given as text, Python loads its tables of international names, 4 ms of each short process.
    host = (parts.hostname or "localhost").encode()
    try:
        addresses = socket.getaddrinfo(host, parts.port or 80, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return any(_accepts(family, address) for family, _, _, _, address in addresses)


def _accepts(family: int, address: tuple[object, ...]) -> bool:
    """Return whether an address takes a connection."""
    # A port that nobody listens on refuses in microseconds, so a process without a service pays next to nothing.
    try:
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            tried.settimeout(_CONNECT_S)
            return tried.connect_ex(address) == 0
    except OSError:  # a host without IPv6, where the name has such an address
        return False
