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
from typing import Final, Protocol

from otel_agent_telemetry.buffer.acks import read_ack, undelivered
from otel_agent_telemetry.buffer.layout import drain_lock_path
from otel_agent_telemetry.clock import Clock
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.counters import Counters
from otel_agent_telemetry.locks import FileLock
from otel_agent_telemetry.model import Fields

HOUSE_EVERY_S: Final = 1.0
LOOK_EVERY_S: Final = 0.5
LINGER_S: Final = 0.05
"""After a wake-up, so that what follows at once shares the batch (and the wake-up)."""
_FLUSH_LOOK_S: Final = 0.01


class House(Protocol):
    """What the background works for: the recorder."""

    config: TelemetryConfig
    clock: Clock
    counters: Counters

    def look_around(self) -> None:
        """Once, at the beginning: what is known of where the process works."""

    def keep_house(self) -> None:
        """fsync, sign of life, counters."""

    def record_run(self, fields: Fields) -> None:
        """Keep one more state of a run."""

    def journal_run(self, fields: Fields) -> None:
        """Keep a state that is delivered already, in the journal only."""

class Worker:
    """The two threads. `wake` is what the application's thread calls: an attribute look-up when they are awake."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._started = False
        self._starting = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._work = threading.Event()
        self._hurry = threading.Event()
        self._stop = threading.Event()
        self._deadline = 0.0

    def wake(self, *, delivery: bool) -> None:
        """Something was recorded. Starts the threads at the first call."""
        if not self._started:
            self._start()
        if delivery and not self._work.is_set():
            self._work.set()

    def _start(self) -> None:
        with self._starting:
            if self._started:
                return
            self._stop.clear()
            self._hurry.clear()
            self._threads = [
                threading.Thread(target=self._keep_house, name="agent-telemetry-house", daemon=True),
                threading.Thread(target=self._deliver, name="agent-telemetry-delivery", daemon=True),
            ]
            self._started = True
            try:
                for thread in self._threads:
                    thread.start()
            except RuntimeError as problem:  # the interpreter is ending: the next deliverer takes over
                self._house.counters.failed("starting the background", problem)

    def _keep_house(self) -> None:
        try:
            self._house.look_around()
        except Exception as problem:  # this thread's outer edge
            self._house.counters.internal("looking around", problem)
        while not self._stop.wait(HOUSE_EVERY_S):
            try:
                self._house.keep_house()
            except Exception as problem:  # this thread's outer edge
                self._house.counters.internal("house keeping", problem)

    def _deliver(self) -> None:
        from otel_agent_telemetry.delivery.deliverer import Deliverer
        from otel_agent_telemetry.delivery.quiet import quietly

        lock = FileLock(drain_lock_path(self._house.config.buffer_dir))
        with quietly():
            while True:
                stopping = self._stop.is_set()
                try:
                    if lock.try_acquire():
                        Deliverer(self._house, stop=self._stop, hurry=self._hurry).run(self._next_work, self._late)
                except Exception as problem:  # this thread's outer edge
                    self._house.counters.internal("delivery", problem)
                finally:
                    lock.release()
                if stopping:
                    return
                self._stop.wait(LOOK_EVERY_S)

    def _next_work(self) -> None:
        """Wait for something to deliver, from this process or, a look later, from another one."""
        if self._work.wait(LOOK_EVERY_S):
            self._hurry.wait(LINGER_S)
        self._work.clear()
        self._hurry.clear()

    def _late(self) -> bool:
        """Whether we are stopping and the time for it is over."""
        return self._stop.is_set() and time.monotonic() >= self._deadline

    def flush(self, writer: str, *, timeout_s: float) -> bool:
        """Wait until all that `writer` has buffered is confirmed. Blocks; False when time ran out."""
        deadline = time.monotonic() + timeout_s
        try:
            waiting = undelivered(self._house.config.buffer_dir, writer) if writer else {}
            while waiting:
                self._hurry.set()
                self._work.set()
                if time.monotonic() >= deadline:
                    return False
                time.sleep(_FLUSH_LOOK_S)
                waiting = {
                    path: size for path, size in waiting.items() if path.exists() and read_ack(path) < size
                }
        except OSError as problem:
            self._house.counters.failed("flush", problem)
            return False
        return True

    def stop(self, *, timeout_s: float) -> None:
        """Deliver for at most `timeout_s` more and end the threads. Idempotent. Blocks that long at most."""
        with self._starting:
            if not self._started:
                return
            self._started = False
            threads, self._threads = self._threads, []
        self._deadline = time.monotonic() + timeout_s
        self._stop.set()
        self._work.set()
        self._hurry.set()
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(self._deadline - time.monotonic(), 0.0) + 0.05)
