"""The database access of one service: a writer, a pool of readers, and the drain of the local buffer.

It is opened once and closed once. On SQLite it is the only writer of its database: it holds
the writer's lock from `open` to `close` and publishes its URL in the lock file, so that
agents on this host send their runs to it. On PostgreSQL any number of services may run.

It delivers the buffer under its own base directory too, so that no record waits on its host.
The service follows the same rule as every agent (design, invariant 3): the holder of the
drain lock delivers for all. An agent that holds it delivers to this service over HTTP; when
that agent ends, or none runs, the service takes the lock and gives the batches to its writer.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import anyio
from sqlalchemy import Connection, Engine

from otel_agent_telemetry.bisection import Bisection
from otel_agent_telemetry.clock import Clock, SystemClock
from otel_agent_telemetry.config import DEFAULT_API_URL, TelemetryConfig
from otel_agent_telemetry.delivery.journal_cursor import JournalProgress, journal_progress
from otel_agent_telemetry.delivery.suppress_instrumentation import suppress_instrumentation
from otel_agent_telemetry.errors import ConfigurationError, SchemaError, StorageError, StoreUnavailableError
from otel_agent_telemetry.service.alert_watch import AlertWatch
from otel_agent_telemetry.service.buffer_drain import BufferDrain
from otel_agent_telemetry.service.figure_watch import FigureWatch
from otel_agent_telemetry.service.file_watch import FileWatch
from otel_agent_telemetry.service.guards import is_public
from otel_agent_telemetry.service.loop_bridge import LoopBridge
from otel_agent_telemetry.service.request_body import BodyBudget
from otel_agent_telemetry.service.silence_watch import SilenceWatch
from otel_agent_telemetry.service.writer import GroupWriter, Job, change_job, write_job
from otel_agent_telemetry.storage.engine import make_read_engine, reading
from otel_agent_telemetry.storage.pricing import use_own_prices
from otel_agent_telemetry.storage.rows import WriteOutcome
from otel_agent_telemetry.storage.store import Store, WriteBatch, WriteResult
from otel_agent_telemetry.storage.store_facts import store_id
from otel_agent_telemetry.storage.writer_lock import WriterLock
from otel_agent_telemetry.urls import without_credentials

T = TypeVar("T")
_log = logging.getLogger(__name__)

_READERS: Final = 8
_PAGE_READERS: Final = 3
_MAX_RESPONSE_BYTES: Final = 128 << 20
"""Long responses in memory, of which one client may hold a quarter."""
_LOCK_TIMEOUT_S: Final = 5.0
"""How long to wait for an agent that writes the database itself and is about to release the lock."""
_LOCK_POLL_S: Final = 0.05
_CLOSE_TIMEOUT_S: Final = 5.0
_PROBE_INTERVAL_S: Final = 1.0
_PROBE_TIMEOUT_S: Final = 0.8
"""A health check is answered within a second, whatever the database does."""


class Backend:
    """Reads and writes the database of one service. `open` and `close` block; the coroutines do not."""

    def __init__(self, settings: TelemetryConfig, *, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self.body_budget = BodyBudget()
        self.response_budget = BodyBudget(_MAX_RESPONSE_BYTES)
        self._stop = threading.Event()
        self._store = Store(settings, stop=self._stop)
        self._file = FileWatch(self._store.path, self._reopen)
        self.writer = GroupWriter(self._store, clock=self.clock, before_commit=self._file.check)
        self._read_engine: Engine | None = None
        self._readers = anyio.CapacityLimiter(_READERS)
        self._page_readers = anyio.CapacityLimiter(_PAGE_READERS)
        self._lock = None if settings.database_url else WriterLock(settings.db_path)
        self._drain = BufferDrain(settings, self.writer, clock=self.clock, store_id=lambda: self.store_id)
        self._silence = SilenceWatch(settings, self.writer, clock=self.clock)
        self.figures = FigureWatch(self.writer, self._engine_of_readers, clock=self.clock)
        self.alerts = AlertWatch(
            settings, self.writer, self._engine_of_readers, clock=self.clock, address=lambda: self.address
        )
        self._open = False
        self.store_id: str | None = None
        """The id of the database, None until it was opened."""
        self._url: str | None = None
        self._bridge: LoopBridge | None = None
        self._probe_lock = anyio.Lock()
        self._last_probe: tuple[float, str] = (-_PROBE_INTERVAL_S, "")

    @property
    def database(self) -> str:
        """Return the name of the database as messages may show it, without a password."""
        return self._store.name

    @property
    def address(self) -> str:
        """Return the URL that links to this service begin with: the configured one, else where it listens."""
        return without_credentials(self.settings.api_url or self._url or DEFAULT_API_URL)

    def open(self) -> None:
        """Take the writer's lock, create or upgrade the database, start the threads. Idempotent; blocks.

        Raises ConfigurationError for settings that contradict each other,
        StoreUnavailableError when another process writes this database, SchemaError.
        """
        if self._open:
            return
        check_settings(self.settings)
        # The lock first: an upgrade of the schema must not run under another writer.
        self._acquire_lock()
        try:
            self._open_store()
            self._read_engine = make_read_engine(self.settings)
            self._file.start()
        except BaseException:
            self._release()
            raise
        # Threads last, so that a failed start leaves none behind.
        self.writer.start()
        self._drain.start()
        self._silence.start()
        self.figures.start()
        self.alerts.start()
        self._open = True

    def announce(self, url: str) -> None:
        """Publish the URL of this service in the lock file. On PostgreSQL there is no lock file: does nothing."""
        self._url = url
        if self._lock is not None:
            # The lock is held already; acquiring it again rewrites what is in its file.
            self._lock.try_acquire(url)

    def _reopen(self) -> None:
        """Open the database file that stands at the path now. Raises StorageError when it cannot be used."""
        # The lock lies beside the file: with the folder it may have been moved away, and another process be the writer.
        if self._lock is not None and not self._lock.reacquire(self._url):
            raise StoreUnavailableError(
                f"opening {self.settings.db_path} again: {self._lock.describe_holder()} writes to it",
                hint="Stop one of the two.",
            )
        # Connections that are in use end with their query; new ones open the new file.
        if self._read_engine is not None:
            self._read_engine.dispose()
        self._store.close()
        self._open_store()

    def _open_store(self) -> None:
        """Make the database ready and learn its id. Raises as `Store.open` does."""
        self._store.open()
        self.store_id = self._store.transact(store_id)

    def _acquire_lock(self) -> None:
        """Take the writer's lock: wait up to 5 s for an agent that holds it, not at all for a service."""
        if self._lock is None:
            return
        deadline = time.monotonic() + _LOCK_TIMEOUT_S
        while not self._lock.try_acquire():
            holder = self._lock.holder()
            # A holder with a URL is a service, which does not give the lock up; an agent holds it for one batch.
            if (holder is not None and holder.url) or time.monotonic() > deadline:
                raise StoreUnavailableError(
                    f"starting a service on {self.settings.db_path}: {self._lock.describe_holder()} writes to it",
                    hint="A SQLite database has one writer; stop that one, or use PostgreSQL for several.",
                )
            time.sleep(_LOCK_POLL_S)

    def close(self) -> None:
        """Commit the accepted writes, then release connections and lock. Idempotent. Blocks up to about 15 s."""
        if not self._open:
            return
        self._open = False
        # The drain first, because it submits writes; the writer then commits what it has accepted, and ends.
        self.alerts.stop()
        self.figures.stop()
        self._silence.stop()
        self._drain.stop()
        if not self.writer.stop(_CLOSE_TIMEOUT_S):
            _log.error(
                "the last writes were not committed within %g s; their clients got no success response",
                _CLOSE_TIMEOUT_S,
            )
        # Only now: it ends the waiting between attempts, which the last writes may still need.
        self._stop.set()
        self._release()

    def _release(self) -> None:
        """Close the connections, and only then give up the writer's lock."""
        if self._read_engine is not None:
            self._read_engine.dispose()
        self._store.close()
        if self._lock is not None:
            self._lock.release()

    async def write(self, batch: WriteBatch, *, timeout_s: float | None = None) -> WriteResult:
        """Commit a batch and return its result after the commit.

        Raises StorageError, OverloadedError; also StoreUnavailableError when the commit takes
        longer than `timeout_s` or `TELEMETRY_API_WRITE_TIMEOUT_S`. It may still happen then;
        sending the same batch again is harmless.
        """
        result: WriteResult = await self._committed(write_job(batch), timeout_s=timeout_s)
        return result

    async def write_each(
        self, items: Sequence[T], batch_of: Callable[[Sequence[T]], WriteBatch], *, timeout_s: float | None = None
    ) -> tuple[WriteResult, list[tuple[T, str]]]:
        """Write items of which the database may refuse some; return the result and the refused ones with the reason.

        PostgreSQL refuses values that no rule of this API names, such as a text too long for
        an index; only halving the batch finds them (design, invariant 5). The result holds the
        accepted items in their order. `timeout_s` bounds each commit. Raises StoreUnavailableError,
        SchemaError, OverloadedError: some items may be committed by then, and all should be sent again.
        """
        try:
            return await self.write(batch_of(items), timeout_s=timeout_s), []
        except (StoreUnavailableError, SchemaError):
            raise
        except StorageError as problem:
            bisection = Bisection(items, refusal=str(problem))
        outcomes: list[WriteOutcome] = []
        linked: list[bool] = []
        for part in bisection:
            try:
                result = await self.write(batch_of(part), timeout_s=timeout_s)
            except (StoreUnavailableError, SchemaError):
                # Nothing is wrong with the items: halving would send all of them to a database that is away.
                raise
            except StorageError as problem:
                bisection.refuse(str(problem))
            else:
                outcomes += result.outcomes
                linked += result.linked
        refused = [(items[position], reason) for position, reason in bisection.refused]
        return WriteResult(tuple(outcomes), tuple(linked)), refused

    async def change(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction of the writer and return its value, see `change_job`. Raises as `write` does."""
        result: T = await self._committed(change_job(work))
        return result

    async def _committed(self, job: Job, *, timeout_s: float | None = None) -> Any:
        """Return the result of a job when it is committed. Raises StoreUnavailableError after the write timeout."""
        timeout_s = min(math.inf if timeout_s is None else timeout_s, self.settings.api_write_timeout_s)
        loop = asyncio.get_running_loop()
        # Tests, and an app that is started again, use one backend in several loops one after another.
        if self._bridge is None or self._bridge.loop is not loop:
            self._bridge = LoopBridge(loop, self.writer)
        try:
            return await self._bridge.result(job, timeout_s)
        except TimeoutError:
            raise self._write_timeout(timeout_s) from None

    def _write_timeout(self, timeout_s: float) -> StoreUnavailableError:
        """Return the error for a write that was not committed in time, with the writer's last problem."""
        problem = self.writer.stats.last_problem
        why = f" ({problem})" if problem else ""
        return StoreUnavailableError(f"writing to {self.database}: not committed within {timeout_s:g} s{why}")

    async def read_page(self, query: Callable[[Connection], T]) -> T:
        """Run a query that returns a long page as `read` does; at most three at a time, because of their memory."""
        async with self._page_readers:
            return await self.read(query)

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run `query` on one consistent snapshot, in a thread; at most eight run at a time. Raises StorageError.

        The view is that of the moment when `query` begins; a write that was answered before is in it.
        """
        if self._file.changed():  # the writer opens what stands there now
            await self._committed(change_job(_probe, writes=False))
        return await anyio.to_thread.run_sync(self._read, query, limiter=self._readers)

    def _read(self, query: Callable[[Connection], Any]) -> Any:
        """Run `query` in the calling thread."""
        with suppress_instrumentation(), reading(self._engine_of_readers(), "reading") as connection:
            return query(connection)

    def _engine_of_readers(self) -> Engine:
        """Return the engine of read-only connections."""
        assert self._read_engine is not None, "opened before the first request"
        return self._read_engine

    async def journal_progress(self) -> JournalProgress:
        """Return how much of the journal under the base directory is in this database. Raises OSError.

        The rest is brought in the background (`BufferDrain`), by this service or by an agent of this host;
        nothing is, and nothing counts as waiting, with `TELEMETRY_DELIVER=runs`.
        """
        if self.store_id is None or self.settings.deliver != "all":
            return JournalProgress(0, 0)
        return await anyio.to_thread.run_sync(journal_progress, self.settings, self.store_id)

    async def write_problem(self) -> str:
        """Return why nothing can be written now, "" when writing works. Writes at most once a second."""
        async with self._probe_lock:
            probed_at, problem = self._last_probe
            # Under the lock: a crowd of health checks waits for one probe instead of writing one each.
            if time.monotonic() - probed_at < _PROBE_INTERVAL_S:
                return problem
            try:
                await self._committed(change_job(_probe, writes=False), timeout_s=_PROBE_TIMEOUT_S)
                problem = ""
            except Exception as failure:  # any failure means that nothing can be written
                problem = str(failure) or type(failure).__name__
            self._last_probe = (time.monotonic(), problem)
            return problem


def _probe(connection: Connection) -> None:
    """Write something that changes nothing; a read would not notice a full or read-only disk."""
    if connection.dialect.name == "sqlite":
        version = connection.exec_driver_sql("PRAGMA user_version").scalar()
        connection.exec_driver_sql(f"PRAGMA user_version = {int(version or 0)}")
    else:
        connection.exec_driver_sql("SELECT pg_current_xact_id()")


def check_settings(settings: TelemetryConfig) -> None:
    """Raise ConfigurationError for a service that anybody could use, or several writers of one SQLite file."""
    use_own_prices(settings.prices)
    if settings.api_auth_enabled and not settings.has_token:
        raise ConfigurationError(
            "TELEMETRY_API_AUTH_ENABLED is true but there is no token: "
            "neither TELEMETRY_API_AUTH_TOKEN nor TELEMETRY_API_TOKENS_FILE is set",
            hint="Set the token, or turn authentication off.",
        )
    if settings.api_auth_enabled is None and not settings.has_token and is_public(settings.api_host):
        raise ConfigurationError(
            f"serving on {settings.api_host} without a token would let everybody read and write the runs",
            hint="Set TELEMETRY_API_AUTH_TOKEN or TELEMETRY_API_TOKENS_FILE; "
            "TELEMETRY_API_AUTH_ENABLED=false serves everybody who reaches the address.",
        )
    if bool(settings.tls_certificate) != bool(settings.tls_key):
        raise ConfigurationError(
            "of TELEMETRY_TLS_CERTIFICATE and TELEMETRY_TLS_KEY one is set alone",
            hint="Set both to serve HTTPS, or neither.",
        )
    if settings.api_workers > 1 and not settings.database_url:
        raise ConfigurationError(
            f"TELEMETRY_API_WORKERS is {settings.api_workers}, but one process writes a SQLite database",
            hint="Set it to 1, or use PostgreSQL (TELEMETRY_DATABASE_URL).",
        )
