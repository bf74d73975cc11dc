"""Comparing the stored counts of the configured database with its runs, and correcting them."""

from __future__ import annotations

from contextlib import nullcontext

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.storage import counts
from otel_agent_telemetry.storage.configured_database import reading_database
from otel_agent_telemetry.storage.counts import CountDifference
from otel_agent_telemetry.storage.database_file import only_writer
from otel_agent_telemetry.storage.store import Store


def check_counts(config: TelemetryConfig) -> list[CountDifference] | None:
    """Return the counts that differ from the runs; None when there is no database yet.

    Reads every run; other processes may write meanwhile. Raises StorageError.
    """
    with reading_database(config) as connection:
        return None if connection is None else counts.check_counts(connection)


def repair_counts(config: TelemetryConfig) -> list[CountDifference]:
    """Correct the counts in one transaction and return those that differed.

    Raises StoreUnavailableError when a service writes the SQLite file or the database cannot
    be written now; nothing is changed then.
    """
    store = Store(config)
    path = store.path
    try:
        with nullcontext() if path is None else only_writer(path, doing="counting the runs of"):
            return store.transact(counts.repair_counts)
    finally:
        store.close()
