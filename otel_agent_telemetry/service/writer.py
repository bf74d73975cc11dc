"""The one thread that writes: what waits together is committed together.

An endpoint submits a *write* (run states, associations, spans: anything that may be merged
with its neighbours) or a *change* (a function that reads and writes inside the transaction).
The thread takes all that waits, up to a bound, and commits it in one transaction; only then
does anybody hear of it. While one commit is on its way to the disk the next group gathers,
so that commits cost the same whether one sender waits or hundreds.

When a group fails for something in it, each of its members is tried by itself: one sender's
value never fails another's. When the database is away, all of them are told so.

Between the event loop and the writer's thread: many jobs in one step, and many results.

Waking a thread, or a loop, costs more than the rest of what a small write needs. And senders
that were answered together come again together: a writer that began with the first of them
would commit one, and then the others. So a job goes over only when the loop has come round
once without another one, or the oldest has been held back for `_HELD_S`; with one sender
that is at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from sqlalchemy import Connection

from otel_agent_telemetry.delivery.suppress_instrumentation import suppress_instrumentation
from otel_agent_telemetry.errors import StorageError, StoreUnavailableError
from otel_agent_telemetry.service.problems import OverloadedError
from otel_agent_telemetry.storage.runs import lock_links
from otel_agent_telemetry.storage.store import Store, WriteBatch, WriteResult, merged_batch, write_batch

T = TypeVar("T")
_log = logging.getLogger(__name__)

MAX_GROUP_ITEMS: Final = 5_000
MAX_WAITING_ITEMS: Final = 200_000


@dataclass(slots=True)
class WriterFigures:
    """What the writer has done since it began; read by `/metrics` without a lock."""

    commits: int = 0
    writes: int = 0
    items: int = 0
    failed: int = 0
    busy_s: float = 0.0
    last_problem: str = ""
    on_commit: Callable[[float, int], None] = field(default=lambda _seconds, _items: None)
    """Called after each commit with its seconds and its items."""


@dataclass(slots=True)
class Job:
    """Something to commit, and whoever waits for it."""

    future: Future[Any]
    size: int
    batch: WriteBatch | None = None
    change: Callable[[Connection], Any] | None = None
    writes: bool = True


def write_job(batch: WriteBatch) -> Job:
    """A batch to be committed."""
    return Job(Future(), max(len(batch), 1), batch=batch)


def change_job(work: Callable[[Connection], Any], *, writes: bool = True) -> Job:
    """`work`, to be done inside a transaction; it may run again when that fails, so it has no other effect.

    `writes`: whether it may write runs.
    """
    return Job(Future(), 1, change=work, writes=writes)


class GroupWriter:
    """Writes for everybody. Start it once; `submit` and `accept` are safe from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: deque[Job] = deque()
        self._waiting_items = 0
        self._turn = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="agent-telemetry-writer", daemon=True)
        self.figures = WriterFigures()

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many items wait for a commit."""
        return self._waiting_items

    def submit(self, batch: WriteBatch) -> Future[WriteResult]:
        """Commit a batch with whatever else waits; the future is done after the commit.

        OverloadedError in it when too much waits already. A future that is cancelled before
        its turn is never written.
        """
        job = write_job(batch)
        self.accept((job,))
        return job.future

    def accept(self, jobs: Sequence[Job]) -> None:
        """Commit these with whatever else waits; each one's future is done after its commit, or says why not."""
        with self._turn:
            refused = [(job, problem) for job in jobs if (problem := self._taken_in(job)) is not None]
            self._turn.notify()
        for job, problem in refused:
            job.future.set_exception(problem)

    def _taken_in(self, job: Job) -> OverloadedError | None:
        if self._stopping:
            return OverloadedError("the service is stopping", retry_after_s=5)
        if self._waiting_items + job.size > MAX_WAITING_ITEMS and self._waiting:
            return OverloadedError(f"{self._waiting_items} records wait to be written")
        self._waiting.append(job)
        self._waiting_items += job.size
        return None

    def stop(self, timeout_s: float) -> bool:
        """Write what was accepted and end; False when that took longer. Idempotent. Blocks."""
        with self._turn:
            self._stopping = True
            self._turn.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        with suppress_instrumentation():
            while group := self._next_group():
                began = time.monotonic()
                self._commit_group(group)
                self.figures.busy_s += time.monotonic() - began

    def _next_group(self) -> list[Job]:
        """What waits, in order, without what was given up; empty when it is over."""
        with self._turn:
            while True:
                self._turn.wait_for(lambda: self._waiting or self._stopping)
                group = self._taken()
                if group or self._stopping:
                    return group

    def _taken(self) -> list[Job]:
        group: list[Job] = []
        items = 0
        while self._waiting and (not group or items + self._waiting[0].size <= MAX_GROUP_ITEMS):
            job = self._waiting.popleft()
            self._waiting_items -= job.size
            if job.future.set_running_or_notify_cancel():
                group.append(job)
                items += job.size
        return group

    def _commit_group(self, group: list[Job]) -> None:
        try:
            self._commit(group)
        except StoreUnavailableError as problem:
            self._fail(group, problem)
        except Exception as problem:  # one of them is to blame, or we are
            if len(group) == 1:
                self._fail(group, problem)
                return
            for job in group:
                self._commit_group([job])

    def _commit(self, group: list[Job]) -> None:
        began = time.monotonic()
        results = self._store.transact(lambda connection: _apply(connection, group))
        self.figures.commits += 1
        self.figures.writes += len(group)
        items = sum(job.size for job in group)
        self.figures.items += items
        self.figures.last_problem = ""
        self.figures.on_commit(time.monotonic() - began, items)
        for job, result in zip(group, results, strict=True):
            _settle(job.future, result)

    def _fail(self, group: list[Job], problem: Exception) -> None:
        self.figures.failed += len(group)
        if isinstance(problem, StorageError):
            self.figures.last_problem = str(problem)
        else:
            _log.error("writing failed: %s", type(problem).__name__, exc_info=problem)
        for job in group:
            job.future.set_exception(problem)


def _settle(future: Future[Any], result: Any) -> None:
    with contextlib.suppress(Exception):  # a callback of whoever waited, who may be gone
        future.set_result(result)


def _apply(connection: Connection, group: Sequence[Job]) -> list[Any]:
    """The result of each job, in order. Neighbouring writes become one; changes keep their place.

    A change reads what it writes. It takes the lock of associations unshared before anything
    else of the group shares it: two transactions that share it can never both unshare it.
    """
    if any(job.change is not None and job.writes for job in group):
        lock_links(connection, shared=False)
    results: list[Any] = []
    batches: list[WriteBatch] = []

    def flush() -> None:
        if batches:
            results.extend(_written(connection, batches))
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


def _written(connection: Connection, batches: Sequence[WriteBatch]) -> list[WriteResult]:
    if len(batches) == 1:
        return [write_batch(connection, batches[0])]
    whole = write_batch(connection, merged_batch(batches))
    return list(whole.split(batches))


_HELD_S: Final = 0.005


class Handover:
    """Jobs of one event loop for the writer. Made and awaited in that loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, writer: GroupWriter) -> None:
        self.loop = loop
        self._writer = writer
        self._held: list[Job] = []
        self._held_before = 0
        self._held_since = 0.0
        self._done: deque[tuple[Future[Any], asyncio.Future[Any]]] = deque()
        self._woken = False

    async def result(self, job: Job, timeout_s: float) -> Any:
        """What the job gives once it is committed. TimeoutError when that takes longer: it is then not begun any more.

        Raises what the writer says of the job. A commit that has begun may still happen after a TimeoutError.
        """
        waiter: asyncio.Future[Any] = self.loop.create_future()
        timer = self.loop.call_later(timeout_s, _give_up, waiter)
        job.future.add_done_callback(lambda done: self._put(done, waiter))
        self._hold(job)
        try:
            return await waiter
        finally:
            timer.cancel()
            job.future.cancel()

    def _hold(self, job: Job) -> None:
        if not self._held:
            self._held_since = self.loop.time()
            self._held_before = 0
            self.loop.call_soon(self._look)
        self._held.append(job)

    def _look(self) -> None:
        """Once each time that the loop comes round, while something is held back."""
        grown = len(self._held) > self._held_before
        if grown and self.loop.time() - self._held_since < _HELD_S:
            self._held_before = len(self._held)
            self.loop.call_soon(self._look)
            return
        jobs, self._held = self._held, []
        self._writer.accept(jobs)

    def _put(self, future: Future[Any], waiter: asyncio.Future[Any]) -> None:
        """In whatever thread settled the future."""
        self._done.append((future, waiter))
        if not self._woken:
            self._woken = True
            try:
                self.loop.call_soon_threadsafe(self._settle)
            except RuntimeError:  # the loop is closed: nobody waits any more
                self._woken = False

    def _settle(self) -> None:
        self._woken = False
        while self._done:
            future, waiter = self._done.popleft()
            if waiter.done() or future.cancelled():
                continue
            problem = future.exception()
            if problem is not None:
                waiter.set_exception(problem)
            else:
                waiter.set_result(future.result())


def _give_up(waiter: asyncio.Future[Any]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())
