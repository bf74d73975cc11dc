"""Putting the kept counts of the configured database right, as its one writer."""

from __future__ import annotations

from contextlib import nullcontext

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.storage import counts as counts_check
from otel_agent_telemetry.storage.counts import CountDifference
from otel_agent_telemetry.storage.database_file import only_writer
from otel_agent_telemetry.storage.store import Store


def repair_counts(config: TelemetryConfig) -> list[CountDifference]:
    """What was wrong and is right now, in one transaction.

    Raises StoreUnavailableError when a service writes the SQLite file, or when the database
    cannot be written now; nothing is changed then.
    """
    store = Store(config)
    path = store.path
    try:
        with nullcontext() if path is None else only_writer(path, doing="counting the runs of"):
            return store.transact(counts_check.repair_counts)
    finally:
        store.close()
