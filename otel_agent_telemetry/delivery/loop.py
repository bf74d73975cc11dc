"""The one deliverer of a buffer folder, as a loop: for a recording process, a command, a service."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.deliverer import Deliverer
from otel_agent_telemetry.delivery.drain_lock import DrainLock
from otel_agent_telemetry.delivery.host import DeliveryHost
from otel_agent_telemetry.delivery.outcome import Target
from otel_agent_telemetry.delivery.resolve import resolve_target

LOOK_EVERY_S: Final = 0.5
"""How often a process that does not deliver looks whether it should."""


class DeliveryLoop:
    """Delivers while nobody else does, until `stop` is set; one thread.

    `next_work` waits for the next pass, `late` ends the last one early. `retry_at` is when the
    target may be asked again, by the monotonic clock: 0.0 unless an attempt has failed.
    """

    def __init__(
        self,
        host: DeliveryHost,
        *,
        stop: threading.Event,
        next_work: Callable[[], None],
        late: Callable[[], bool],
        resolve: Callable[[TelemetryConfig], Target] = resolve_target,
        rest: Callable[[], None] = lambda: None,
    ) -> None:
        self._host = host
        self._stop = stop
        self._next_work = next_work
        self._late = late
        self._resolve = resolve
        self._rest = rest
        self._lock = DrainLock(host.config.buffer_dir)
        self._deliverer: Deliverer | None = None

    @property
    def retry_at(self) -> float:
        """When the next attempt may be made after one that failed, by the monotonic clock; else 0.0."""
        deliverer = self._deliverer
        return 0.0 if deliverer is None else deliverer.retry_at

    def run(self) -> None:
        """Deliver, or look twice a second whether to, until told to stop; and once more then."""
        while True:
            stopping = self._stop.is_set()
            try:
                self._deliver_if_needed()
            except Exception as problem:  # the outer edge of the background
                self._host.counters.internal("delivery", problem)
            if stopping:
                return
            self._stop.wait(LOOK_EVERY_S)

    def _deliver_if_needed(self) -> None:
        if not self._host.config.buffer_dir.is_dir():
            return
        try:
            if self._lock.try_acquire():
                self._deliver(lambda: False)
            elif self._lock.holder_stalled():
                self._host.counters.warn("stalled", "the process that delivers stands still; delivering beside it")
                self._deliver(lambda: not self._lock.holder_stalled())
        finally:
            self._lock.release()

    def _deliver(self, give_way: Callable[[], bool]) -> None:
        deliverer = Deliverer(
            self._host,
            stop=self._stop,
            resolve=self._resolve,
            on_progress=self._lock.note_progress,
            rest=self._rest,
        )
        self._deliverer = deliverer
        try:
            deliverer.run(self._next_work, self._late, give_way)
        finally:
            self._deliverer = None
