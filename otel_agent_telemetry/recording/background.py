"""The background of a process that records runs: two daemon threads.

- The *tick* thread, once a second: fsync, sign of life, counters.
- The *delivery* thread: tries to become the one deliverer of this buffer folder, and as
  long as it is, delivers once a second; else it looks again twice a second.

Neither exists before the first record. Stopping is idempotent, and a later record starts
both anew. The threads import nothing third-party: what the configured target needs of it is
imported when the client or the processor is made, see `import_ahead`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final, Protocol

from otel_agent_telemetry.clock import SystemClock
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.host import DeliveryHost
from otel_agent_telemetry.interpreter import importing, is_shutting_down

if TYPE_CHECKING:
    from otel_agent_telemetry.delivery.deliverer import DeliveryLoop

TICK_EVERY_S: Final = 1.0
PASS_EVERY_S: Final = 1.0
"""How long records wait for company: most runs then cost one row written, not two."""
_FLUSH_LOOK_S: Final = 0.005
_REST_S: Final = 0.000_05


def import_ahead(config: TelemetryConfig) -> None:
    """Import, on the calling thread, the third-party modules that delivery of this configuration needs.

    None but for a database other than the SQLite file: SQLAlchemy, Alembic and the driver, some
    300 ms. What cannot be imported is reported when delivery meets it. Idempotent.
    """
    if config.database_url is not None and not config.api_url:
        with importing():
            from otel_agent_telemetry.delivery.database_target import import_driver

        import_driver(config)


class BackgroundHost(DeliveryHost, Protocol):
    """What the background threads work for: the recorder."""

    def detect_environment(self) -> None:
        """Read, once at the beginning, what is known of the directory that the process works in."""

    def tick(self) -> None:
        """Sync, leave a sign of life, write the counters. Called once a second."""


class _BackgroundThreads:
    """Two threads and what they are asked for: from one start to its stop."""

    __slots__ = ("deadline", "flushing", "loop", "pass_wanted", "stop", "threads")

    def __init__(self) -> None:
        self.pass_wanted = threading.Event()
        self.stop = threading.Event()
        self.deadline = 0.0
        self.flushing = False
        self.threads: list[threading.Thread] = []
        self.loop: DeliveryLoop | None = None

    def next_work(self) -> None:
        """Wait for the next pass: a second, or until somebody flushes or stops."""
        # Cleared after the wait: a request during the pass before is still set here and begins the next at once.
        self.pass_wanted.wait(PASS_EVERY_S)
        self.pass_wanted.clear()

    def rest(self) -> None:
        """Give the interpreter away for a moment, unless somebody waits for the delivery.

        A thread of the application that comes back from a write would else wait a whole
        switch interval (5 ms) for us.
        """
        if not self.flushing and not self.stop.is_set():
            time.sleep(_REST_S)

    def late(self) -> bool:
        """Return whether we are stopping and the time for it is over."""
        return self.stop.is_set() and SystemClock.monotonic_s() >= self.deadline

    def end(self, timeout_s: float) -> None:
        """Stop both threads and wait for them, `timeout_s` at most."""
        self.deadline = SystemClock.monotonic_s() + timeout_s
        self.stop.set()
        self.pass_wanted.set()
        for thread in self.threads:
            # A thread that was never started cannot be joined, and `close` may be called on one of ours.
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(max(self.deadline - SystemClock.monotonic_s(), 0.0) + 0.05)


class Worker:
    """The background. `wake` is all that the application's thread calls, and only while `shift` is None."""

    def __init__(self, host: BackgroundHost) -> None:
        self._host = host
        import_ahead(host.config)
        self._starting = threading.RLock()  # a signal handler that records may come at any moment
        self.shift: _BackgroundThreads | None = None
        """The threads that run now; None before the first record and after a stop."""

    def wake(self) -> None:
        """Start the threads unless they run: at the first record, and at one that comes after a stop."""
        if self.shift is None:
            self._start()

    def _start(self) -> _BackgroundThreads | None:
        """Start the threads; None while the interpreter shuts down: the next deliverer takes over then."""
        if is_shutting_down():
            return None
        with self._starting:
            if self.shift is not None:
                return self.shift
            # The threads are made before the second check and started after it: a signal handler of this same
            # thread passes the RLock, and may start its own in between.
            shift = _BackgroundThreads()
            for name, task in (("tick", self._tick_every_second), ("delivery", self._deliver)):
                thread = threading.Thread(target=task, args=(shift,), name=f"agent-telemetry-{name}", daemon=True)
                shift.threads.append(thread)
            if self.shift is not None:  # a signal handler was faster
                return self.shift  # type: ignore[unreachable]  # another frame of this thread has set it
            self.shift = shift
            try:
                for thread in shift.threads:
                    thread.start()
            except RuntimeError as problem:  # the next deliverer takes over
                if "interpreter shutdown" not in str(problem):  # Python 3.12 refuses them once the main thread ended
                    self._host.counters.failed("starting the background", problem)
            return shift

    def _tick_every_second(self, shift: _BackgroundThreads) -> None:
        """Do what is due each second, until the end: the thread `agent-telemetry-tick`."""
        self._guarded("reading the environment", self._host.detect_environment)
        while not shift.stop.wait(TICK_EVERY_S):
            self._guarded("sync", self._host.tick)

    def _guarded(self, what: str, task: Callable[[], None]) -> None:
        """Run a task; what it raises is counted, and the thread goes on."""
        try:
            task()
        except Exception as problem:  # the outer edge of the background
            self._host.counters.internal(what, problem)

    def _deliver(self, shift: _BackgroundThreads) -> None:
        """Deliver until the end: the thread of delivery."""
        with importing():
            from otel_agent_telemetry.delivery.deliverer import DeliveryLoop
            from otel_agent_telemetry.delivery.suppress_instrumentation import suppress_instrumentation

        shift.loop = DeliveryLoop(
            self._host, stop=shift.stop, next_work=shift.next_work, late=shift.late, rest=shift.rest
        )
        # Else an instrumented HTTP client or SQLite would make spans, and runs, of our own deliveries, without end.
        with suppress_instrumentation():
            shift.loop.run()

    def flush(self, writers: Collection[str], *, timeout_s: float) -> bool:
        """Wait until all that these writers have buffered, and the journal of this host, is confirmed.

        Blocks; False when it is not. The journal is waited for where its lines go to a service.
        Returns at once when the target may only be asked again beyond `timeout_s`.
        """
        with importing():
            from otel_agent_telemetry.buffer.layout import still_unconfirmed, undelivered
            from otel_agent_telemetry.delivery.journal_cursor import still_waiting, waiting_lines

        config, deadline = self._host.config, SystemClock.monotonic_s() + timeout_s
        waiting = undelivered(config.buffer_dir, writers) if writers else {}
        lines = waiting_lines(config, archives=False) if writers else {}
        shift = None
        # The set is taken once: what other threads record during the flush does not prolong it.
        while waiting or lines:
            if shift is not self.shift or shift is None:
                # Another thread may stop the background while we wait, and a record start it anew: follow the new one.
                shift = self.shift or self._start()
                if shift is None:
                    return False
                shift.flushing = True
                shift.pass_wanted.set()
            if SystemClock.monotonic_s() >= deadline or (shift.loop is not None and shift.loop.retry_at >= deadline):
                break
            time.sleep(_FLUSH_LOOK_S)
            waiting = still_unconfirmed(waiting)
            lines = lines if waiting else still_waiting(config, lines)
        if shift is not None:
            shift.flushing = False
        return not waiting and not lines

    def stop(self, *, timeout_s: float) -> None:
        """Deliver for at most `timeout_s` more and end the threads. Idempotent. Blocks that long at most."""
        shift = self.shift
        if shift is not None:
            shift.end(timeout_s)
            self.shift = None
