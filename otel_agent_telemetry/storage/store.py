"""The write door of the database: one transaction a batch, tried again while that may help.

A Store is used by one thread at a time. It keeps one engine from `open` to `close`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Connection
from tenacity import (
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_attempt,
    stop_when_event_set,
    wait_exponential,
)

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.errors import StoreUnavailableError
from otel_agent_telemetry.model import CommitLink, RunRecord
from otel_agent_telemetry.storage.batch import WriteBatch, WriteResult, write_batch
from otel_agent_telemetry.storage.counts import pack_counts, sweep_counts, wants_sweeping
from otel_agent_telemetry.storage.engine import database_name, make_engine, reading, sqlite_path, writing
from otel_agent_telemetry.storage.schema import SchemaReport, ensure_schema

T = TypeVar("T")

_MAX_WAIT_S = 30.0


class Store:
    """The configured database, written by this process.

    Raises ConfigurationError at once for a URL that cannot be used; touches nothing before `open`.
    `stop`, once set, ends all waiting between attempts.
    """

    def __init__(self, config: TelemetryConfig, *, stop: threading.Event | None = None) -> None:
        self._config = config
        self._stop = stop or threading.Event()
        self._engine = make_engine(config)
        self.name = database_name(self._engine)
        """The database without credentials, for messages."""
        self.path = sqlite_path(self._engine)
        """The file of a SQLite database, None for any other."""

    def open(self) -> SchemaReport:
        """Make the database ready: created, upgraded or found current.

        Raises SchemaError at once, StoreUnavailableError after the configured attempts.
        """
        report: SchemaReport = self._attempts()(ensure_schema, self._engine, self._config)
        if self._engine.dialect.name == "postgresql":
            self.transact(pack_counts)
        return report

    def write(self, records: Sequence[RunRecord], links: Sequence[CommitLink] = ()) -> WriteResult:
        """Keep a batch in one transaction; on return it is committed, on an error none of it is.

        Blocks for the busy timeout of each attempt. Raises StoreUnavailableError when every
        attempt failed, SchemaError, or StorageError when the database refuses a value.
        """
        return self.transact(lambda connection: write_batch(connection, WriteBatch(records, links)))

    def transact(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, in one transaction; on return it is committed, on an error none of it is.

        Tried again as `write` is, so `work` may run several times. Blocks and raises as `write` does.
        """
        done: T = self._attempts()(self._transact, work)
        return done

    def _transact(self, work: Callable[[Connection], T]) -> T:
        with writing(self._engine, "writing runs to") as connection:
            done = work(connection)
            packed = wants_sweeping(connection)
        if packed:
            sweep_counts(self._engine)
        return done

    def _attempts(self) -> Retrying:
        return Retrying(
            stop=stop_after_attempt(1 + self._config.db_max_retries) | stop_when_event_set(self._stop),
            wait=wait_exponential(multiplier=self._config.db_retry_base_delay_s, max=_MAX_WAIT_S),
            retry=retry_if_exception_type(StoreUnavailableError),
            sleep=sleep_using_event(self._stop),
            reraise=True,
        )

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A consistent view for the functions of `queries`. Raises StorageError."""
        with reading(self._engine, "reading") as connection:
            yield connection

    def close(self) -> None:
        """Close every connection. Idempotent; `open` and `write` would open new ones."""
        self._engine.dispose()
