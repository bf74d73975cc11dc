"""Results on their way from the writer's thread to the event loop: many of them in one wake-up.

A commit settles everybody who was in its group; waking the loop once for each of them costs
more than the rest of what they need.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future
from typing import Any


class Handover:
    """Futures of another thread as futures of one event loop. Made and awaited in that loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._done: deque[tuple[Future[Any], asyncio.Future[Any]]] = deque()
        self._woken = False

    async def result(self, future: Future[Any], timeout_s: float) -> Any:
        """What the future gives. TimeoutError when that takes longer; the future is cancelled then, if it can be."""
        waiter: asyncio.Future[Any] = self.loop.create_future()
        timer = self.loop.call_later(timeout_s, _give_up, waiter)
        future.add_done_callback(lambda done: self._put(done, waiter))
        try:
            return await waiter
        finally:
            timer.cancel()
            future.cancel()

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
