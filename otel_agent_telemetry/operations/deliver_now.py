"""Delivering what is buffered now, from a process that recorded nothing itself.

Whoever holds the drain lock delivers (invariant 3). When nobody does, we take it and run
the same passes as the background does; when another process does, we wait until what was
buffered at the beginning is confirmed, and take over if that process ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otel_agent_telemetry.buffer.acknowledgements import read_acknowledged, undelivered
from otel_agent_telemetry.buffer.health import read_health
from otel_agent_telemetry.buffer.layout import drain_lock_path, list_writers
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.deliverer import Deliverer
from otel_agent_telemetry.delivery.outcome import RetryLater
from otel_agent_telemetry.delivery.suppress_instrumentation import suppress_instrumentation
from otel_agent_telemetry.locks import FileLock
from otel_agent_telemetry.recording.recorder import Recorder

_LOOK_EVERY_S: Final = 0.02
_REPORT_EVERY_S: Final = 0.1
_FIRST_RETRY_S: Final = 0.1
_LONGEST_RETRY_S: Final = 2.0
_LAST_WORDS_S: Final = 0.5

Progress = Callable[[int, int], None]
"""Called with the bytes confirmed so far and the bytes that waited at the beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainReport:
    """What a drain achieved.

    `done`: everything that was buffered at the beginning is confirmed. `waiting_bytes`: what
    is not. `problem`: why the target did not take it. `by_another`: another process delivered,
    and the counts are what it did meanwhile.
    """

    done: bool
    delivered: int = 0
    rejected: int = 0
    closed_runs: int = 0
    waiting_bytes: int = 0
    target: str = ""
    problem: str = ""
    by_another: bool = False


def drain_now(
    config: TelemetryConfig,
    *,
    timeout_s: float,
    wait_for_others: bool = True,
    on_progress: Progress | None = None,
) -> DrainReport:
    """Deliver everything that is buffered, for at most about `timeout_s`. Makes no folder.

    Without `wait_for_others` a drain lock that is taken ends it at once. A single write to
    the target is not cut short: give a configuration with small timeouts to bound that.
    Raises OSError when the buffer cannot be read.
    """
    if not config.buffer_dir.is_dir() or not list_writers(config.buffer_dir):
        return DrainReport(done=True)
    return _Draining(config, time.monotonic() + timeout_s, on_progress).run(wait_for_others=wait_for_others)


def impatient(config: TelemetryConfig, *, patience_s: float) -> TelemetryConfig:
    """The configuration with every wait for a database or a service cut to `patience_s`."""
    return config.with_(
        db_busy_timeout_ms=min(config.db_busy_timeout_ms, int(patience_s * 1000)),
        db_max_retries=0,
        api_timeout_s=min(config.api_timeout_s, patience_s),
    )


class _Draining:
    """One call of `drain_now`."""

    def __init__(self, config: TelemetryConfig, deadline: float, on_progress: Progress | None) -> None:
        self._config = config
        self._deadline = deadline
        self._on_progress = on_progress
        self._reported_at = 0.0
        self._waited_for = undelivered(config.buffer_dir)
        self._total = _unconfirmed(self._waited_for)
        self._before = read_health(config.buffer_dir)

    def run(self, *, wait_for_others: bool) -> DrainReport:
        lock = FileLock(drain_lock_path(self._config.buffer_dir))
        try:
            while not lock.try_acquire():
                self._report()
                if not self._left():
                    return self._result(by_another=True)
                if not wait_for_others or self._late():
                    return self._result(by_another=True)
                time.sleep(_LOOK_EVERY_S)
            with suppress_instrumentation():
                return self._result(problem=self._deliver())
        finally:
            lock.release()

    def _deliver(self) -> str:
        """Passes until nothing is left or the time is over: the last problem, "" when there was none."""
        recorder = Recorder(self._config)
        stop, flush_requested = threading.Event(), threading.Event()
        deliverer = Deliverer(recorder, stop=stop, flush_requested=flush_requested)
        try:
            wait_s = _FIRST_RETRY_S
            while isinstance(outcome := deliverer.deliver_once(self._is_late), RetryLater):
                left_s = max(self._deadline - time.monotonic(), 0.0)
                flush_requested.wait(min(max(wait_s, outcome.after_s or 0.0), left_s))
                wait_s = min(wait_s * 2, _LONGEST_RETRY_S)
                if self._late():
                    return outcome.reason
            stop.set()
            deliverer.run(lambda: None, self._late)  # the last pass: what the webhook has noted meanwhile
            return ""
        finally:
            deliverer.close()
            recorder.close(timeout_s=_LAST_WORDS_S)
            self._report(at_once=True)

    def _result(self, *, problem: str = "", by_another: bool = False) -> DrainReport:
        left, now = self._left(), read_health(self._config.buffer_dir)
        return DrainReport(
            done=not left and not problem,
            delivered=now.delivered - self._before.delivered,
            rejected=now.rejected - self._before.rejected,
            closed_runs=now.closed_runs - self._before.closed_runs,
            waiting_bytes=_unconfirmed(left),
            target=now.target,
            problem=problem,
            by_another=by_another,
        )

    def _left(self) -> dict[Path, int]:
        """What waited at the beginning and is not confirmed yet."""
        self._waited_for = {
            path: size for path, size in self._waited_for.items() if path.exists() and read_acknowledged(path) < size
        }
        return self._waited_for

    def _late(self) -> bool:
        return time.monotonic() >= self._deadline

    def _is_late(self) -> bool:
        """Asked between two batches."""
        self._report()
        return self._late()

    def _report(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if self._on_progress is not None and (at_once or now - self._reported_at >= _REPORT_EVERY_S):
            self._reported_at = now
            self._on_progress(self._total - _unconfirmed(self._left()), self._total)


def _unconfirmed(segments: dict[Path, int]) -> int:
    return sum(max(size - read_acknowledged(path), 0) for path, size in segments.items() if path.exists())
