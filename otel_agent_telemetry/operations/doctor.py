"""Everything that can be looked at from outside, as findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.errors import StorageError
from otel_agent_telemetry.operations.check_buffer import check_buffer, check_journal
from otel_agent_telemetry.operations.check_database import check_database, check_service
from otel_agent_telemetry.operations.check_environment import (
    Finding,
    check_folders,
    check_opentelemetry,
    check_settings,
    error,
)


def examine(config: TelemetryConfig, *, now_ns: int) -> Iterator[Finding]:
    """Every finding, in the order in which a person would look. Changes nothing.

    Blocks for a second on a locked database or a service that is away, and for as long as
    it takes to read the database's pages. Never raises for what it finds.
    """
    looks: dict[str, Callable[[], Iterator[Finding]]] = {
        "settings": lambda: check_settings(config),
        "opentelemetry": check_opentelemetry,
        "folders": lambda: check_folders(config),
        "service": lambda: check_service(config),
        "database": lambda: check_database(config, now_ns=now_ns),
        "buffer": lambda: check_buffer(config),
        "journal": lambda: check_journal(config),
    }
    for about, look in looks.items():
        yield from _guarded(about, look)


def _guarded(about: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What a look finds, or that it could not look."""
    try:
        yield from look()
    except (OSError, StorageError) as problem:
        yield error(about, f"cannot be looked at: {problem}", "Give this user access to it.")
