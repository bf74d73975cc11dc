"""The local database as a target: used when no service takes the runs."""

from __future__ import annotations

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.outcome import Batch, Delivered, Outcome, RetryLater, deliver_by_halves
from otel_agent_telemetry.errors import (
    AgentTelemetryError,
    ConfigurationError,
    SchemaError,
    StorageError,
    StoreUnavailableError,
)
from otel_agent_telemetry.storage.store import Store
from otel_agent_telemetry.urls import without_credentials


class DatabaseTarget:
    """Writes batches into the configured database, each in one transaction."""

    def __init__(self, config: TelemetryConfig) -> None:
        self.name = without_credentials(config.database_url or str(config.db_path))
        self._config = config
        self._store: Store | None = None

    def deliver(self, batch: Batch) -> Outcome:
        """Commit the batch.

        A database that is locked, full, read-only or not ours means later; one that refuses
        the content is asked again with halves of it.
        """
        try:
            self._opened().write(batch.records, batch.links)
        except (StoreUnavailableError, SchemaError, ConfigurationError) as problem:
            self.close()
            return RetryLater(_sentence(problem))
        except StorageError as problem:
            return deliver_by_halves(self, batch, _sentence(problem))
        return Delivered()

    def _opened(self) -> Store:
        if self._store is None:
            store = Store(self._config)
            store.open()
            self._store = store
        return self._store

    def close(self) -> None:
        """Close the database."""
        store, self._store = self._store, None
        if store is not None:
            store.close()


def _sentence(problem: AgentTelemetryError) -> str:
    return f"{problem} ({problem.hint})" if problem.hint else str(problem)
