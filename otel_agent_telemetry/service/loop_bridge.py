"""Carry jobs from an event loop to the writer's thread and the results back, many in one step.

Waking a thread or a loop costs more than everything else that a small write needs. So jobs that come in one after
another are handed over together, and results that are there together are set in one iteration of the loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import Any, Final

from otel_agent_telemetry.service.writer import GroupWriter, Job

_MAX_HOLD_S: Final = 0.005


class LoopBridge:
    """Carries jobs of one event loop to the writer, and their results back. Used in that loop alone."""

    def __init__(self, loop: asyncio.AbstractEventLoop, writer: GroupWriter) -> None:
        self.loop = loop
        self._writer = writer
        self._held: list[Job] = []
        self._held_before = 0
        self._held_since = 0.0
        self._done: deque[tuple[Job, asyncio.Future[Any]]] = deque()
        self._wakeup_scheduled = False

    async def result(self, job: Job, timeout_s: float) -> Any:
        """Return the job's result after its commit. Raises what the writer set as its failure.

        Raises TimeoutError when that takes longer than `timeout_s`. A job that has not begun
        by then never will; a commit that has begun may still happen.
        """
        waiter: asyncio.Future[Any] = self.loop.create_future()
        timer = self.loop.call_later(timeout_s, _time_out, waiter)
        job.on_done = partial(self._deliver, waiter)
        self._hold(job)
        try:
            return await waiter
        finally:
            timer.cancel()
            # A job whose client has gone or waited too long is not begun any more; after a result this means nothing.
            job.is_cancelled = True

    def _hold(self, job: Job) -> None:
        """Hold a job back until the loop has run one iteration without another one."""
        if not self._held:
            self._held_since = self.loop.time()
            self._held_before = 0
            self.loop.call_soon(self._flush_when_idle)
        self._held.append(job)

    def _flush_when_idle(self) -> None:
        """Hand the held jobs over, unless more came in this iteration and the oldest is younger than 5 ms."""
        # Clients answered together retry together; wait one loop iteration so their writes share
        # a commit. A writer woken by the first of them would commit one, and then the others.
        grown = len(self._held) > self._held_before
        if grown and self.loop.time() - self._held_since < _MAX_HOLD_S:
            self._held_before = len(self._held)
            self.loop.call_soon(self._flush_when_idle)
            return
        jobs, self._held = self._held, []
        self._writer.accept(jobs)

    def _deliver(self, waiter: asyncio.Future[Any], job: Job) -> None:
        """Queue a result for the loop and wake it; called in the thread that ended the job."""
        self._done.append((job, waiter))
        # A race: two threads may both see False and wake the loop twice, which is harmless. The loop
        # clears the flag before it empties the queue, so that no result stays behind.
        if not self._wakeup_scheduled:
            self._wakeup_scheduled = True
            try:
                self.loop.call_soon_threadsafe(self._resolve_waiters)
            except RuntimeError:  # the loop is closed, so nothing waits any more
                self._wakeup_scheduled = False

    def _resolve_waiters(self) -> None:
        """Set every queued result on its waiter; runs in the loop."""
        self._wakeup_scheduled = False
        while self._done:
            job, waiter = self._done.popleft()
            if waiter.done():
                continue
            if job.problem is not None:
                waiter.set_exception(job.problem)
            else:
                waiter.set_result(job.result)


def _time_out(waiter: asyncio.Future[Any]) -> None:
    """End the wait for a commit with TimeoutError; `LoopBridge.result` then cancels the job."""
    # The commit may have ended in this same iteration of the loop, and a future is set only once.
    if not waiter.done():
        waiter.set_exception(TimeoutError())
