"""A database by SQLAlchemy as a target: for `TELEMETRY_DATABASE_URL`, when no service takes the runs.

It imports what a recording process must not import on its background thread: see `import_driver`.
"""

from __future__ import annotations

import contextlib

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.outcome import Batch, Delivered, Outcome, RetryLater, deliver_bisected
from otel_agent_telemetry.errors import (
    ConfigurationError,
    SchemaError,
    StorageError,
    StoreUnavailableError,
)
from otel_agent_telemetry.interpreter import importing
from otel_agent_telemetry.storage.store import Store
from otel_agent_telemetry.storage.writer_lock import WriterLock
from otel_agent_telemetry.urls import without_credentials


def import_driver(config: TelemetryConfig) -> None:
    """Import, on the calling thread, all that writing the configured database imports later. Connects to nothing."""
    with importing():
        import alembic.command
        import alembic.config  # noqa: F401 - a database without our tables is made by these

        with contextlib.suppress(ConfigurationError):  # delivery reports it
            Store(config).close()


class DatabaseTarget:
    """Writes batches into the configured database, each in one transaction.

    A SQLite file has one writer: while a service holds it, nothing is written here and the
    answer is `RetryLater`, upon which the deliverer looks for that service.
    """

    def __init__(self, config: TelemetryConfig) -> None:
        self.name = without_credentials(config.database_url or str(config.db_path))
        self._config = config
        self._store: Store | None = None
        self._writer_lock = None if config.database_url else WriterLock(config.db_path)

    def deliver(self, batch: Batch) -> Outcome:
        """Commit the batch.

        A database that is locked, full, read-only or not ours means later; one that refuses
        the content is asked again with halves of it.
        """
        try:
            if self._writer_lock is not None and not self._writer_lock.try_acquire():
                return RetryLater(f"{self.name} is being written by {self._writer_lock.describe_holder()}")
            self._opened().write(batch.states, batch.links)
        except (StoreUnavailableError, SchemaError, ConfigurationError) as problem:
            # Opened anew next time: a database that came back, or was upgraded, needs new connections.
            self.close()
            return RetryLater(problem.with_hint())
        except StorageError as problem:
            return deliver_bisected(self, batch, problem.with_hint())
        finally:
            if self._writer_lock is not None:
                self._writer_lock.release()
        return Delivered()

    def _opened(self) -> Store:
        """Return the open store; opens it at the first call. Raises StorageError."""
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
