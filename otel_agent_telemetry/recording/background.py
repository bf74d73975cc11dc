"""The background of a process that records runs: two daemon threads and one exit handler.

- The *house* thread, once a second: fsync, sign of life, counters.
- The *delivery* thread: tries to become the one deliverer of this buffer folder, and as
  long as it is, drains it; else it looks again every half second.

Neither exists before the first record. A `RetryLater` makes the delivery thread wait as
`delivery.retry` says; flush and stop cut the wait short. Stopping is idempotent, and a
later record starts both anew.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from otel_agent_telemetry.buffer.layout import drain_lock_path
from otel_agent_telemetry.delivery.host import DeliveryHost
from otel_agent_telemetry.locks import FileLock

TICK_EVERY_S: Final = 1.0
LOOK_EVERY_S: Final = 0.5
LINGER_S: Final = 0.2
"""After a wake-up, so that what follows shares the batch: most runs then cost one row written, not two."""
_FLUSH_LOOK_S: Final = 0.01


class BackgroundHost(DeliveryHost, Protocol):
    """What the background threads work for: the recorder."""

    def detect_environment(self) -> None:
        """Read, once at the beginning, what is known of the directory that the process works in."""

    def tick(self) -> None:
        """Sync, leave a sign of life, write the counters. Called once a second."""


class _BackgroundThreads:
    """Two threads and what they are told: from one start to its stop."""

    __slots__ = ("deadline", "flush_requested", "stop", "threads", "work")

    def __init__(self) -> None:
        self.work = threading.Event()
        self.flush_requested = threading.Event()
        self.stop = threading.Event()
        self.deadline = 0.0
        self.threads: list[threading.Thread] = []

    def next_work(self) -> None:
        """Wait for something to deliver, from this process or, a look later, from another one."""
        if self.work.wait(LOOK_EVERY_S):
            self.flush_requested.wait(LINGER_S)
        self.work.clear()
        self.flush_requested.clear()

    def late(self) -> bool:
        """Whether we are stopping and the time for it is over."""
        return self.stop.is_set() and time.monotonic() >= self.deadline

    def end(self, timeout_s: float) -> None:
        """Tell both threads to stop and wait for them, `timeout_s` at most."""
        self.deadline = time.monotonic() + timeout_s
        for event in (self.stop, self.work, self.flush_requested):
            event.set()
        for thread in self.threads:
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(max(self.deadline - time.monotonic(), 0.0) + 0.05)


class Worker:
    """The background. `wake` is all that the application's thread calls: a look-up when it is awake."""

    def __init__(self, host: BackgroundHost) -> None:
        self._host = host
        self._starting = threading.RLock()  # a signal handler that records may come at any moment
        self._shift: _BackgroundThreads | None = None

    def wake(self, *, delivery: bool) -> None:
        """Something was recorded. Starts the threads at the first call, and after a stop."""
        shift = self._shift or self._start()
        if delivery and not shift.work.is_set():
            shift.work.set()

    def _start(self) -> _BackgroundThreads:
        with self._starting:
            if self._shift is not None:
                return self._shift
            shift = _BackgroundThreads()
            for name, task in (("house", self._tick_every_second), ("delivery", self._deliver)):
                thread = threading.Thread(target=task, args=(shift,), name=f"agent-telemetry-{name}", daemon=True)
                shift.threads.append(thread)
            if self._shift is not None:  # a signal handler was faster
                return self._shift  # type: ignore[unreachable]  # another frame of this thread has set it
            self._shift = shift
            try:
                for thread in shift.threads:
                    thread.start()
            except RuntimeError as problem:  # the next deliverer takes over
                if "interpreter shutdown" not in str(problem):  # Python 3.12 and later refuse threads at exit
                    self._host.counters.failed("starting the background", problem)
            return shift

    def _tick_every_second(self, shift: _BackgroundThreads) -> None:
        self._guarded("looking around", self._host.detect_environment)
        while not shift.stop.wait(TICK_EVERY_S):
            self._guarded("house keeping", self._host.tick)

    def _guarded(self, what: str, task: Callable[[], None]) -> None:
        try:
            task()
        except Exception as problem:  # the outer edge of the background
            self._host.counters.internal(what, problem)

    def _deliver(self, shift: _BackgroundThreads) -> None:
        from otel_agent_telemetry.delivery.suppress_instrumentation import suppress_instrumentation

        lock = FileLock(drain_lock_path(self._host.config.buffer_dir))
        with suppress_instrumentation():
            while True:
                stopping = shift.stop.is_set()
                self._guarded("delivery", lambda: self._deliver_if_free(lock, shift))
                if stopping:
                    return
                shift.stop.wait(LOOK_EVERY_S)

    def _deliver_if_free(self, lock: FileLock, shift: _BackgroundThreads) -> None:
        from otel_agent_telemetry.delivery.deliverer import Deliverer

        try:
            if self._host.config.buffer_dir.is_dir() and lock.try_acquire():
                deliverer = Deliverer(self._host, stop=shift.stop, flush_requested=shift.flush_requested)
                deliverer.run(shift.next_work, shift.late)
        finally:
            lock.release()

    def flush(self, writer: str, *, timeout_s: float) -> bool:
        """Wait until all that `writer` has buffered is confirmed. Blocks; False when time ran out."""
        from otel_agent_telemetry.buffer.acknowledgements import still_unconfirmed, undelivered

        deadline = time.monotonic() + timeout_s
        waiting = undelivered(self._host.config.buffer_dir, writer) if writer else {}
        while waiting:
            shift = self._shift or self._start()
            shift.flush_requested.set()
            shift.work.set()
            if time.monotonic() >= deadline:
                return False
            time.sleep(_FLUSH_LOOK_S)
            waiting = still_unconfirmed(waiting)
        return True

    def stop(self, *, timeout_s: float) -> None:
        """Deliver for at most `timeout_s` more and end the threads. Idempotent. Blocks that long at most."""
        shift = self._shift
        if shift is not None:
            shift.end(timeout_s)
            self._shift = None
