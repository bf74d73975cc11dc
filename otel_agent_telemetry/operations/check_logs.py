"""The check of `doctor` on log records over OTLP: how many named no run and were not kept, and whose they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.operations.check_environment import Finding, ok
from otel_agent_telemetry.storage.run_logs import count_waiting, senders_not_kept
from otel_agent_telemetry.storage.store import reading_database

_MANY: Final = 5
_NO_NAME: Final = "(no service.name)"


def check_logs(config: TelemetryConfig) -> Iterator[Finding]:
    """Yield how many log records a service has taken and not kept, and how many wait. Raises StorageError."""
    with reading_database(config) as connection:
        if connection is None:
            return
        # Both before anything is yielded: a slow terminal must not keep the read lock.
        senders, waiting = senders_not_kept(connection), count_waiting(connection)
    if senders:
        most = [f"{sender or _NO_NAME} ({records})" for sender, records in list(senders.items())[:_MANY]]
        more = f", and {len(senders) - _MANY} more" if len(senders) > _MANY else ""
        yield ok(
            "logs",
            f"{sum(senders.values())} log records named no run and were not kept, of {', '.join(most)}{more}; "
            "a trace id or the attribute agent_run.id makes one an event of its run",
        )
    if waiting:
        yield ok("logs", f"{waiting} log records wait for the run of their trace")
