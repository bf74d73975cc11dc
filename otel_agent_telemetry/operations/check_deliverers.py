"""The checks of `doctor` on the way of whole runs to a service: what waits on this host, and which hosts are silent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from otel_agent_telemetry.buffer.health import read_health
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.journal_cursor import last_cursor, waiting_lines
from otel_agent_telemetry.operations.check_environment import Finding, ok, warn
from otel_agent_telemetry.storage.deliverers import SILENCE_S, Deliverer, list_deliverers
from otel_agent_telemetry.storage.store import reading_database

_MANY: Final = 10
_MINUTE_S: Final = 60


def check_lines(config: TelemetryConfig) -> Iterator[Finding]:
    """Yield how much of the journal waits for a service. Raises OSError."""
    if config.deliver != "all" or config.api_url is None:
        return
    health = read_health(config.buffer_dir)
    if health.target and not health.takes_lines:
        yield warn(
            "delivery",
            f"{health.target} takes states of runs only; events and steps stay in the journal of this host",
            "Upgrade the service; what waits is delivered then.",
        )
        return
    waiting, cursor = waiting_lines(config), last_cursor(config.buffer_dir)
    left = sum(size - (cursor.confirmed(path) if cursor else 0) for path, size in waiting.items())
    yield ok("delivery", f"{health.lines} events and steps were delivered, {left} bytes of the journal wait")


def check_deliverers(config: TelemetryConfig, *, now_ns: int) -> Iterator[Finding]:
    """Yield which hosts deliver to the configured database, and which have gone silent. Raises StorageError."""
    with reading_database(config) as connection:
        found = [] if connection is None else list_deliverers(connection)
    if not found:
        return
    silent = [one for one in found if one.is_silent(now_ns)]
    yield ok("deliverers", f"{len(found)} hosts deliver to this database, {len(found) - len(silent)} are in order")
    for one in silent[:_MANY]:
        yield warn("deliverers", _described(one, now_ns), "Look whether that host runs, and at `doctor` there.")
    if len(silent) > _MANY:
        yield warn("deliverers", f"{len(silent) - _MANY} more are silent", "`/metrics/prometheus` has each of them.")


def _described(one: Deliverer, now_ns: int) -> str:
    """Return what is known of a silent deliverer."""
    minutes = int(one.contact_age_s(now_ns) // _MINUTE_S)
    left = f"about {one.backlog_records} records ({one.backlog_bytes} bytes) and {one.open_runs} open runs"
    limit = int(SILENCE_S // _MINUTE_S)
    return f"{one.host} {one.base_dir} was last heard of {minutes} minutes ago (limit {limit}), with {left} left"
