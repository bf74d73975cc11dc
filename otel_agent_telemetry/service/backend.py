"""What stands behind the endpoints: the writer, the readers, the drain of the local buffer.

Opened once, closed once. On SQLite it is the one writer of its database: it holds the
writer's lock from `open` to `close`, and says in it where it answers, so that agents on this
host send their runs here. On a server database any number of services may run.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import anyio
from sqlalchemy import Connection, Engine

from otel_agent_telemetry.clock import Clock, SystemClock
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.suppress_instrumentation import suppress_instrumentation
from otel_agent_telemetry.errors import ConfigurationError, StoreUnavailableError
from otel_agent_telemetry.service.buffer_drain import BufferDrain
from otel_agent_telemetry.service.request_body import HeldBytes
from otel_agent_telemetry.service.writer import GroupWriter, Handover, Job, change_job, write_job
from otel_agent_telemetry.storage.engine import make_read_engine, reading
from otel_agent_telemetry.storage.store import Store, WriteBatch, WriteResult
from otel_agent_telemetry.storage.writer_lock import WriterLock

T = TypeVar("T")
_log = logging.getLogger(__name__)

_READERS: Final = 8
_EMBEDDED_S: Final = 5.0
_LOOK_S: Final = 0.05
_CLOSE_S: Final = 5.0
_PROBE_KEPT_S: Final = 1.0


class Backend:
    """One service's database access. `open` and `close` block; the coroutines do not."""

    def __init__(self, settings: TelemetryConfig, *, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self.held = HeldBytes()
        self._stop = threading.Event()
        self._store = Store(settings, stop=self._stop)
        self.writer = GroupWriter(self._store)
        self._read_engine: Engine | None = None
        self._readers = anyio.CapacityLimiter(_READERS)
        self._lock = None if settings.database_url else WriterLock(settings.db_path)
        self._drain = BufferDrain(settings, self.writer, clock=self.clock)
        self._open = False
        self._handover: Handover | None = None
        self._probing = anyio.Lock()
        self._probed: tuple[float, str] = (-_PROBE_KEPT_S, "")

    @property
    def database(self) -> str:
        """The database as a message may show it."""
        return self._store.name

    def open(self) -> None:
        """Become the writer and make the database ready. Idempotent.

        Raises ConfigurationError for settings that would not protect what they promise to,
        StoreUnavailableError when another process writes this database, SchemaError.
        """
        if self._open:
            return
        check_settings(self.settings)
        self._become_writer()
        try:
            self._store.open()
            self._read_engine = make_read_engine(self.settings)
        except BaseException:
            self._release()
            raise
        self.writer.start()
        self._drain.start()
        self._open = True

    def announce(self, url: str) -> None:
        """Say in the lock file where this service answers."""
        if self._lock is not None:
            self._lock.try_acquire(url)

    def _become_writer(self) -> None:
        """Take the writer's lock; an agent that is writing this moment is waited for, a service is not."""
        if self._lock is None:
            return
        deadline = time.monotonic() + _EMBEDDED_S
        while not self._lock.try_acquire():
            holder = self._lock.holder()
            if (holder is not None and holder.url) or time.monotonic() > deadline:
                raise StoreUnavailableError(
                    f"starting a service on {self.settings.db_path}: {self._lock.describe_holder()} writes to it",
                    hint="A SQLite database has one writer; stop that one, or use PostgreSQL for several.",
                )
            time.sleep(_LOOK_S)

    def close(self) -> None:
        """Write what was accepted, then give everything up. Idempotent. Blocks."""
        if not self._open:
            return
        self._open = False
        self._drain.stop()
        if not self.writer.stop(_CLOSE_S):
            _log.error("the database did not take the last writes within %g s; nobody was told they are kept", _CLOSE_S)
        self._stop.set()
        self._release()

    def _release(self) -> None:
        if self._read_engine is not None:
            self._read_engine.dispose()
        self._store.close()
        if self._lock is not None:
            self._lock.release()

    async def write(self, batch: WriteBatch) -> WriteResult:
        """Keep a batch; returns after the commit that holds it.

        Raises StorageError, OverloadedError; StoreUnavailableError too when the commit takes
        longer than `TELEMETRY_API_WRITE_TIMEOUT_S`: it may still happen, and telling the same
        again is harmless.
        """
        result: WriteResult = await self._settled(write_job(batch))
        return result

    async def change(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in a transaction of the writer, as `change_job` says. Raises as `write` does."""
        result: T = await self._settled(change_job(work))
        return result

    async def _settled(self, job: Job) -> Any:
        timeout_s, loop = self.settings.api_write_timeout_s, asyncio.get_running_loop()
        if self._handover is None or self._handover.loop is not loop:
            self._handover = Handover(loop, self.writer)
        try:
            return await self._handover.result(job, timeout_s)
        except TimeoutError:
            raise self._too_slow() from None

    def _too_slow(self) -> StoreUnavailableError:
        problem = self.writer.figures.last_problem
        why = f" ({problem})" if problem else ""
        patience_s = self.settings.api_write_timeout_s
        return StoreUnavailableError(f"writing to {self.database}: not committed within {patience_s:g} s{why}")

    async def read(self, query: Callable[[Connection], T]) -> T:
        """What `query` returns of one consistent view. At most eight at a time. Raises StorageError."""
        return await anyio.to_thread.run_sync(self._read, query, limiter=self._readers)

    def _read(self, query: Callable[[Connection], Any]) -> Any:
        assert self._read_engine is not None, "opened before the first request"
        with suppress_instrumentation(), reading(self._read_engine, "reading") as connection:
            return query(connection)

    async def write_problem(self) -> str:
        """Why nothing can be written now, "" when it can: found by writing, at most once a second."""
        async with self._probing:
            at, problem = self._probed
            if time.monotonic() - at < _PROBE_KEPT_S:
                return problem
            try:
                await self._settled(change_job(_probe, writes=False))
                problem = ""
            except Exception as failure:  # whatever it is, that is the answer
                problem = str(failure) or type(failure).__name__
            self._probed = (time.monotonic(), problem)
            return problem


def _probe(connection: Connection) -> None:
    """Write something that changes nothing: a full or read-only disk shows at no lesser price."""
    if connection.dialect.name == "sqlite":
        version = connection.exec_driver_sql("PRAGMA user_version").scalar()
        connection.exec_driver_sql(f"PRAGMA user_version = {int(version or 0)}")
    else:
        connection.exec_driver_sql("SELECT pg_current_xact_id()")


def check_settings(settings: TelemetryConfig) -> None:
    """Raise ConfigurationError for settings that would not protect what they promise to."""
    if settings.api_auth_enabled and not settings.api_auth_token:
        raise ConfigurationError(
            "TELEMETRY_API_AUTH_ENABLED is true but TELEMETRY_API_AUTH_TOKEN is not set",
            hint="Set the token, or turn authentication off.",
        )
    if settings.api_workers > 1 and not settings.database_url:
        raise ConfigurationError(
            f"TELEMETRY_API_WORKERS is {settings.api_workers}, but one process writes a SQLite database",
            hint="Set it to 1, or use PostgreSQL (TELEMETRY_DATABASE_URL).",
        )
