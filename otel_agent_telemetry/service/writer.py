"""The writer thread: requests that wait together are committed together.

An endpoint submits a *write* (run states, commit associations, spans: anything that may be
merged with its neighbours) or a *change* (a function that reads and writes inside the
transaction). The thread takes everything that waits, up to a bound, and commits it in one
transaction; only then are the requests responded to. While one commit is on its way to the
disk the next group gathers, so a commit costs the same for one client as for hundreds.

When a group fails because of a value in it, each of its jobs is committed alone: one
client's value never fails another's. When the database is unavailable, all of them fail.

How the jobs of an event loop get here is `loop_bridge`'s.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from sqlalchemy import Connection

from otel_agent_telemetry.clock import Clock, SystemClock, iso_utc
from otel_agent_telemetry.delivery.suppress_instrumentation import suppress_instrumentation
from otel_agent_telemetry.errors import StorageError, StoreUnavailableError
from otel_agent_telemetry.service.responses import OverloadedError
from otel_agent_telemetry.storage.runs import lock_links
from otel_agent_telemetry.storage.store import Store, WriteBatch, WriteResult, merged_batch, write_batch

T = TypeVar("T")
_log = logging.getLogger(__name__)

MAX_GROUP_ITEMS: Final = 5_000
# Bounds the memory that waiting requests hold while the database is slow; beyond it clients get a 503 with
# Retry-After and keep their records themselves.
MAX_WAITING_ITEMS: Final = 200_000
_LOOK_S: Final = 1.0


@dataclass(slots=True)
class WriterStats:
    """Counts of the writer since its start; read by `/metrics` without a lock."""

    commits: int = 0
    writes: int = 0
    items: int = 0
    failed: int = 0
    busy_s: float = 0.0
    last_problem: str = ""
    on_commit: Callable[[float, int], None] = field(default=lambda _seconds, _items: None)
    """Called after each commit, in the writer's thread, with its duration in seconds and its number of items."""


@dataclass(slots=True)
class Job:
    """Something to commit, and what became of it. Holds either a batch or a change.

    The writer calls `on_done` once, from whichever thread ends the job; then either `result`
    or `problem` is set. It must not block. A `concurrent.futures.Future` did the same at the
    cost of a lock and a condition for each request.
    """

    size: int
    batch: WriteBatch | None = None
    change: Callable[[Connection], Any] | None = None
    writes: bool = True
    on_done: Callable[[Job], None] = field(default=lambda _job: None)
    is_cancelled: bool = False
    """Set by the submitter: a job whose turn has not come yet is dropped, and `on_done` is not called."""
    result: Any = None
    problem: Exception | None = None


def write_job(batch: WriteBatch) -> Job:
    """Return a job that writes a batch."""
    return Job(max(len(batch), 1), batch=batch)


def change_job(work: Callable[[Connection], Any], *, writes: bool = True) -> Job:
    """Return a job that runs `work` inside a transaction and results in its value.

    `work` may run again when a transaction fails, so it must have no other effect. `writes`:
    whether it may write runs; default True.
    """
    return Job(1, change=work, writes=writes)


class GroupWriter:
    """Commits the jobs of all threads. Started once; `submit` and `accept` are safe from any thread."""

    def __init__(
        self, store: Store, *, clock: Clock | None = None, before_commit: Callable[[], None] = lambda: None
    ) -> None:
        """Make a writer of `store`. `before_commit` is called in the writer's thread, and may raise StorageError."""
        self._store = store
        self._before_commit = before_commit
        self._clock = clock or SystemClock()
        self._waiting: deque[Job] = deque()
        self._waiting_items = 0
        self._wakeup = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="agent-telemetry-writer", daemon=True)
        self.stats = WriterStats()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Return how many items wait for a commit."""
        return self._waiting_items

    def submit(self, batch: WriteBatch) -> Future[WriteResult]:
        """Queue a batch; the future is done after the commit that holds it.

        The future fails with OverloadedError when too much waits already.
        """
        future: Future[WriteResult] = Future()
        job = write_job(batch)
        job.on_done = partial(_set_result, future)
        self.accept((job,))
        return future

    def accept(self, jobs: Sequence[Job]) -> None:
        """Queue jobs; each is done after its commit, or at once with the reason why it cannot be queued."""
        with self._wakeup:
            refused = [(job, problem) for job in jobs if (problem := self._enqueue(job)) is not None]
            self._wakeup.notify()
        for job, problem in refused:
            _finish(job, problem=problem)

    def _enqueue(self, job: Job) -> OverloadedError | None:
        """Add a job to the queue, or return why not. The caller holds the condition."""
        if self._stopping:
            return OverloadedError("the service is stopping", retry_after_s=5)
        # A job larger than the bound is taken when nothing waits; refused, it could never be written.
        if self._waiting_items + job.size > MAX_WAITING_ITEMS and self._waiting:
            return OverloadedError(f"{self._waiting_items} records wait to be written")
        self._waiting.append(job)
        self._waiting_items += job.size
        return None

    def commit(self, work: Callable[[Connection], T], *, stopping: threading.Event) -> T | None:
        """Commit a change that writes no run, for a thread of the service, and return its value. Blocks.

        None when `stopping` is set before its turn comes. Raises StorageError, OverloadedError.
        """
        done = threading.Event()
        job = change_job(work, writes=False)
        job.on_done = lambda _job: done.set()
        self.accept((job,))
        while not done.wait(_LOOK_S):
            if stopping.is_set():
                job.is_cancelled = True
                return None
        if job.problem is not None:
            raise job.problem
        value: T = job.result
        return value

    def stop(self, timeout_s: float) -> bool:
        """Commit the accepted jobs and end the thread; False when that took longer. Idempotent. Blocks."""
        with self._wakeup:
            # What was accepted before is still committed: the thread ends only once its queue is empty.
            self._stopping = True
            self._wakeup.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        """Commit groups until the writer is stopped and its queue is empty."""
        with suppress_instrumentation():
            while group := self._next_group():
                started_at = time.monotonic()
                self._commit_group(group)
                self.stats.busy_s += time.monotonic() - started_at

    def _next_group(self) -> list[Job]:
        """Wait for jobs and return them in order, without cancelled ones; empty when the writer stops."""
        with self._wakeup:
            while True:
                self._wakeup.wait_for(lambda: self._waiting or self._stopping)
                group = self._dequeue()
                if group or self._stopping:
                    return group

    def _dequeue(self) -> list[Job]:
        """Return the next jobs, up to `MAX_GROUP_ITEMS` items but at least one job."""
        group: list[Job] = []
        items = 0
        while self._waiting and (not group or items + self._waiting[0].size <= MAX_GROUP_ITEMS):
            job = self._waiting.popleft()
            self._waiting_items -= job.size
            # Without a lock: cancelled a moment later, it is written and nobody waits for the result.
            if not job.is_cancelled:
                group.append(job)
                items += job.size
        return group

    def _commit_group(self, group: list[Job]) -> None:
        """Commit a group; when a value in it is refused, commit each of its jobs alone."""
        try:
            self._commit(group)
        # The database is away and no job is at fault; tried alone, each of them would wait for it once more.
        except StoreUnavailableError as problem:
            self._fail(group, problem)
        except Exception as problem:  # one of the jobs is at fault, or the code is
            if len(group) == 1:
                self._fail(group, problem)
                return
            for job in group:
                # One by one and not by halves: each job has its own submitter, who waits for its own answer.
                self._commit_group([job])

    def _commit(self, group: list[Job]) -> None:
        """Commit a group in one transaction and set the results. Raises whatever the transaction raises."""
        started_at = time.monotonic()
        received_at = iso_utc(self._clock.now_ns())
        self._before_commit()
        results = self._store.transact(lambda connection: _apply(connection, group, received_at))
        self.stats.commits += 1
        self.stats.writes += len(group)
        items = sum(job.size for job in group)
        self.stats.items += items
        self.stats.last_problem = ""
        self.stats.on_commit(time.monotonic() - started_at, items)
        for job, result in zip(group, results, strict=True):
            _finish(job, result)

    def _fail(self, group: list[Job], problem: Exception) -> None:
        """Count and log a failure, and end every job of the group with it."""
        self.stats.failed += len(group)
        if isinstance(problem, StorageError):
            self.stats.last_problem = str(problem)
        else:
            _log.error("writing failed: %s", type(problem).__name__, exc_info=problem)
        for job in group:
            _finish(job, problem=problem)


def _finish(job: Job, result: Any = None, *, problem: Exception | None = None) -> None:
    """Set the outcome of a job and call its submitter back."""
    job.result, job.problem = result, problem
    with contextlib.suppress(Exception):  # a submitter that is gone must not fail the others of its group
        job.on_done(job)


def _set_result(future: Future[Any], job: Job) -> None:
    """Hand the outcome of a job to the future that waits for it."""
    if job.problem is not None:
        future.set_exception(job.problem)
    else:
        future.set_result(job.result)


def _apply(connection: Connection, group: Sequence[Job], received_at: str) -> list[Any]:
    """Return the result of each job, in order. Neighbouring writes are merged; changes keep their place."""
    # A change reads what it writes, so it takes the lock of associations exclusively, and before
    # anything else of the group takes it shared: two transactions that hold it shared could
    # never both make it exclusive.
    if any(job.change is not None and job.writes for job in group):
        lock_links(connection, shared=False)
    results: list[Any] = []
    batches: list[WriteBatch] = []

    def flush() -> None:
        if batches:
            results.extend(_write_merged(connection, batches, received_at))
            batches.clear()

    for job in group:
        if job.batch is not None:
            batches.append(job.batch)
            continue
        flush()
        assert job.change is not None
        results.append(job.change(connection))
    flush()
    return results


def _write_merged(connection: Connection, batches: Sequence[WriteBatch], received_at: str) -> list[WriteResult]:
    """Write batches as one, and return each one's part of the result."""
    if len(batches) == 1:
        return [write_batch(connection, batches[0], received_at=received_at)]
    whole = write_batch(connection, merged_batch(batches), received_at=received_at)
    return list(whole.split(batches))
