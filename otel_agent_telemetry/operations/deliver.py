"""Deliver the buffer from a process that recorded nothing itself: once, or until it is stopped.

`deliver_now` is for `sync`, and for commands that deliver before they read;
`deliver_until_stopped` is for `agent-telemetry deliver`.

One process at a time delivers, the holder of the drain lock (invariant 3). When the lock is
free, this module takes it and delivers as the background thread of a recording process does.
When another process holds it, it waits until that one has delivered what was buffered at the
beginning, and takes over if that process ends.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from otel_agent_telemetry.buffer.health import read_health
from otel_agent_telemetry.buffer.layout import list_writers, still_unconfirmed, unconfirmed_bytes, undelivered
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.deliverer import NOT_YET, Deliverer, DeliveryLoop
from otel_agent_telemetry.delivery.drain_lock import DrainLock
from otel_agent_telemetry.delivery.journal_cursor import last_cursor, still_waiting, waiting_lines
from otel_agent_telemetry.delivery.outcome import RetryLater
from otel_agent_telemetry.delivery.suppress_instrumentation import suppress_instrumentation
from otel_agent_telemetry.errors import SchemaError, StorageError
from otel_agent_telemetry.last_activity import StepUsageSum
from otel_agent_telemetry.recording.recorder import Recorder
from otel_agent_telemetry.storage.sqlite_file import OLDER_HINT, open_sqlite

_POLL_S: Final = 0.02
_PROGRESS_INTERVAL_S: Final = 0.1
_CLOSE_TIMEOUT_S: Final = 0.5

Progress = Callable[[int, int], None]
"""Called with the bytes confirmed so far and the bytes that were waiting at the beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryReport:
    """The result of a delivery.

    `done`: everything that was buffered at the beginning is confirmed. `lines` of the journal went
    to a service besides. `waiting_bytes`: what is not confirmed. `problem`: why the target did not
    accept it, "" without a problem. `by_another`: another process delivered, and the counts are
    those of its work meanwhile.
    """

    done: bool
    delivered: int = 0
    lines: int = 0
    rejected: int = 0
    closed_runs: int = 0
    waiting_bytes: int = 0
    target: str = ""
    problem: str = ""
    by_another: bool = False


def deliver_now(
    config: TelemetryConfig,
    *,
    timeout_s: float,
    wait_for_others: bool = True,
    on_progress: Progress | None = None,
) -> DeliveryReport:
    """Deliver everything that is buffered, for at most about `timeout_s` seconds. Creates no folder.

    Without `wait_for_others` it returns at once when another process holds the drain lock. A
    request or write that is under way is not interrupted: `with_short_timeouts` bounds it.
    Raises OSError when the buffer cannot be read.
    """
    # The lock file would create the folder, and reads create nothing.
    if not config.buffer_dir.is_dir() or not (list_writers(config.buffer_dir) or waiting_lines(config)):
        return DeliveryReport(done=True)
    upgrade_old_file(config)
    return _Delivery(config, time.monotonic() + timeout_s, on_progress).run(wait_for_others=wait_for_others)


def upgrade_old_file(config: TelemetryConfig) -> None:
    """Upgrade the configured SQLite file if it is of an older version: a recording process does not.

    After a backup. A file that cannot be upgraded stays as it is, and the delivery reports why.
    """
    if config.api_url or config.database_url or not config.db_path.exists():
        return
    try:
        open_sqlite(config).close()
    except (SchemaError, sqlite3.Error, OSError) as problem:
        # Another problem is the delivery's to report, which meets it again.
        if not isinstance(problem, SchemaError) or problem.hint != OLDER_HINT:
            return
        from otel_agent_telemetry.storage.store import Store

        store = Store(config)
        with contextlib.suppress(StorageError):
            store.open()
        store.close()


def with_short_timeouts(config: TelemetryConfig, *, timeout_s: float) -> TelemetryConfig:
    """Return the configuration with every wait for a database or a service limited to `timeout_s` seconds."""
    return config.with_(
        db_busy_timeout_ms=min(config.db_busy_timeout_ms, int(timeout_s * 1000)),
        db_max_retries=0,
        api_timeout_s=min(config.api_timeout_s, timeout_s),
    )


def _new_usage_sum() -> StepUsageSum:
    """Return what adds up the steps of a run left open; OpenTelemetry is imported only where there is one."""
    from otel_agent_telemetry.otel.left_open_usage import LeftOpenUsage

    return LeftOpenUsage()


class _Delivery:
    """One call of `deliver_now`."""

    def __init__(self, config: TelemetryConfig, deadline: float, on_progress: Progress | None) -> None:
        self._config = config
        self._deadline = deadline
        self._on_progress = on_progress
        self._reported_at = 0.0
        self._segments = undelivered(config.buffer_dir)
        self._lines = waiting_lines(config)
        self._total = self._waiting_bytes()
        self._before = read_health(config.buffer_dir)

    def run(self, *, wait_for_others: bool) -> DeliveryReport:
        """Deliver, or wait until the holder of the drain lock has delivered.

        The lock is tried again every 20 ms, so a holder that dies is replaced at once;
        one that makes no progress is passed over after 10 s.
        """
        lock = DrainLock(self._config.buffer_dir)
        try:
            # An operating-system lock cannot be awaited with a timeout.
            while not lock.try_acquire() and not lock.holder_stalled():
                self._report()
                if not self._waiting_bytes():
                    return self._result(by_another=True)
                if not wait_for_others or self._late():
                    return self._result(by_another=True)
                time.sleep(_POLL_S)
            # Our own HTTP requests must not become spans, and so runs, of an instrumented process.
            with suppress_instrumentation():
                return self._result(problem=self._deliver(lock))
        finally:
            lock.release()

    def _deliver(self, lock: DrainLock) -> str:
        """Deliver until nothing is left or the time is over. Returns the last problem, "" without one."""
        # A recorder of its own: the shared one would be closed with it, and the process may record runs.
        recorder, stop = Recorder(self._config), threading.Event()
        recorder.new_usage_sum = _new_usage_sum
        deliverer = Deliverer(recorder, stop=stop, on_progress=lock.note_progress, archives=True)
        problem = ""
        try:
            while isinstance(outcome := deliverer.deliver_once(self._late_between_batches), RetryLater):
                problem = problem if outcome.reason == NOT_YET else outcome.reason
                if deliverer.retry_at >= self._deadline:
                    return problem
                stop.wait(max(min(deliverer.retry_at - time.monotonic(), _POLL_S), 0.0))
            stop.set()
            deliverer.run(lambda: None, self._late)  # stores what the webhook reported meanwhile
            return ""
        finally:
            deliverer.close()
            recorder.close(timeout_s=_CLOSE_TIMEOUT_S)
            self._report(at_once=True)

    def _result(self, *, problem: str = "", by_another: bool = False) -> DeliveryReport:
        """Return the report: the counters of the buffer, compared with those of the beginning."""
        left, now = self._waiting_bytes(), read_health(self._config.buffer_dir)
        return DeliveryReport(
            done=not left and not problem,
            # The counters in the buffer include what another process delivered meanwhile.
            delivered=now.delivered - self._before.delivered,
            lines=now.lines - self._before.lines,
            rejected=now.rejected - self._before.rejected,
            closed_runs=now.closed_runs - self._before.closed_runs,
            waiting_bytes=left,
            target=now.target,
            problem=problem,
            by_another=by_another,
        )

    def _waiting_bytes(self) -> int:
        """Return how many bytes of what was there at the beginning are not confirmed yet."""
        self._segments = still_unconfirmed(self._segments)
        self._lines = still_waiting(self._config, self._lines) if not self._segments else self._lines
        cursor = last_cursor(self._config.buffer_dir) if self._lines else None
        confirmed = sum(map(cursor.confirmed, self._lines)) if cursor is not None else 0
        return unconfirmed_bytes(self._segments) + sum(self._lines.values()) - confirmed

    def _late(self) -> bool:
        """Return whether the time is over."""
        return time.monotonic() >= self._deadline

    def _late_between_batches(self) -> bool:
        """Report progress and return whether the time is over; called between two batches."""
        self._report()
        return self._late()

    def _report(self, *, at_once: bool = False) -> None:
        """Call `on_progress`, at most ten times a second unless `at_once`."""
        now = time.monotonic()
        if self._on_progress is not None and (at_once or now - self._reported_at >= _PROGRESS_INTERVAL_S):
            self._reported_at = now
            self._on_progress(self._total - self._waiting_bytes(), self._total)


_PASS_EVERY_S: Final = 1.0


def deliver_until_stopped(config: TelemetryConfig, stop: threading.Event) -> None:
    """Deliver what every process of this host buffers, until `stop` is set; then once more.

    Blocks. While another process delivers it looks twice a second whether that one has ended
    or stands still. The last pass takes at most about `exit_timeout_s` seconds; what is left
    waits in the buffer. Creates no folder.
    """
    upgrade_old_file(config)
    recorder = Recorder(config)
    deadline: list[float] = []

    def late() -> bool:
        """Return whether the time for the last deliveries is over."""
        if not stop.is_set():
            return False
        if not deadline:
            deadline.append(time.monotonic() + config.exit_timeout_s)
        return time.monotonic() >= deadline[0]

    # `late` gives the last pass its deadline: it begins to count when `stop` is seen, not when the process started.
    recorder.new_usage_sum = _new_usage_sum
    loop = DeliveryLoop(recorder, stop=stop, next_work=lambda: _pause(stop), late=late, archives=True)
    try:
        # Our own HTTP requests must not become spans, and so runs, of an instrumented process.
        with suppress_instrumentation():
            loop.run()
    finally:
        recorder.close(timeout_s=config.exit_timeout_s)


def _pause(stop: threading.Event) -> None:
    """Wait for a second, or until the delivery is stopped."""
    stop.wait(_PASS_EVERY_S)
