"""The write door of the database: one transaction a batch, tried again while that may help.

A Store is used by one thread at a time. It keeps one engine from `open` to `close`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

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
from otel_agent_telemetry.storage.engine import database_name, make_engine, reading, writing
from otel_agent_telemetry.storage.runs import WriteOutcome, link_commits, lock_links, upsert_runs
from otel_agent_telemetry.storage.schema import SchemaReport, ensure_schema

_MAX_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What became of a batch, by position: of each record, and of each link whether its run is there."""

    outcomes: tuple[WriteOutcome, ...] = ()
    linked: tuple[bool, ...] = ()

    def count(self, outcome: WriteOutcome) -> int:
        """How many records ended so."""
        return self.outcomes.count(outcome)


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

    def open(self) -> SchemaReport:
        """Make the database ready: created, upgraded or found current.

        Raises SchemaError at once, StoreUnavailableError after the configured attempts.
        """
        return self._attempts()(ensure_schema, self._engine, self._config)

    def write(self, records: Sequence[RunRecord], links: Sequence[CommitLink] = ()) -> WriteResult:
        """Keep a batch in one transaction; on return it is committed, on an error none of it is.

        Blocks for the busy timeout of each attempt. Raises StoreUnavailableError when every
        attempt failed, SchemaError, or StorageError when the database refuses a value.
        """
        return self._attempts()(self._write, records, links)

    def _write(self, records: Sequence[RunRecord], links: Sequence[CommitLink]) -> WriteResult:
        with writing(self._engine, "writing runs to") as connection:
            lock_links(connection, shared=not links)
            outcomes = upsert_runs(connection, records)
            return WriteResult(tuple(outcomes), tuple(link_commits(connection, links)))

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

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction for a caller inside this package that writes more than runs. No retry."""
        with writing(self._engine, "writing to") as connection:
            yield connection

    def close(self) -> None:
        """Close every connection. Idempotent; `open` and `write` would open new ones."""
        self._engine.dispose()
