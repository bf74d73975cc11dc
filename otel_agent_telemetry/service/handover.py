"""Between the event loop and the writer's thread: many jobs in one step, and many results.

Waking a thread, or a loop, costs more than the rest of what a small write needs. And senders
that were answered together come again together: a writer that began with the first of them
would commit one, and then the others. So a job goes over only when the loop has come round
once without another one, or the oldest has been held back for `_HELD_S`; with one sender
that is at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future
from typing import Any, Final

from otel_agent_telemetry.service.writer import GroupWriter, Job

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
        waiter.set_exception(asyncio.TimeoutError())
