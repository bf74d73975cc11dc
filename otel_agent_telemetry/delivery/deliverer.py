"""The one deliverer of a buffer folder: passes of the drain until it is told to stop.

Made by the worker's thread once it holds the drain lock; also used by `agent-telemetry sync`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.drain import Drain
from otel_agent_telemetry.delivery.host import DeliveryHost
from otel_agent_telemetry.delivery.outcome import RetryLater, Target
from otel_agent_telemetry.delivery.resolve import resolve_target
from otel_agent_telemetry.delivery.retry import until_delivered
from otel_agent_telemetry.delivery.webhook import Webhook
from otel_agent_telemetry.model import RunRecord

_RESOLVE_PASSES: Final = 240
"""After so many passes (two minutes of idling) we look again whether a service has come up."""


class Deliverer:
    """Delivers with retries. The caller holds the drain lock; one thread.

    `resolve` says which target runs go to now; by default as `resolve.resolve_target` does.
    """

    def __init__(
        self,
        host: DeliveryHost,
        *,
        stop: threading.Event,
        flush_requested: threading.Event,
        resolve: Callable[[TelemetryConfig], Target] = resolve_target,
    ) -> None:
        self._host = host
        self._resolve = resolve
        self._stop = stop
        self._flush_requested = flush_requested
        self._target: Target | None = None
        self._passes = 0
        self._webhook = self._make_webhook()
        self.drain = Drain(
            host.config.buffer_dir,
            journal_dir=host.config.ndjson_dir,
            clock=host.clock,
            counters=host.counters,
            on_delivered=self._delivered,
            on_closed=lambda state: host.journal_run(state.to_fields()),
        )

    def _make_webhook(self) -> Webhook | None:
        config = self._host.config
        if not config.sheets_enabled or not config.sheets_url:
            return None
        if config.sheets_auth_required and not config.sheets_token:
            return None
        return Webhook(
            config,
            clock=self._host.clock,
            counters=self._host.counters,
            on_posted=lambda state: self._host.record_run(state.to_fields()),
        )

    def _delivered(self, records: Sequence[RunRecord]) -> None:
        if self._webhook is not None:
            self._webhook.post(records)

    def run(self, next_work: Callable[[], None], late: Callable[[], bool]) -> None:
        """Deliver until told to stop, then once more; `late` ends that last pass early."""
        try:
            retrying = until_delivered(self._stop, self._sleep)
            while not self._stop.is_set():
                retrying(self.deliver_once, late)
                next_work()
            self._finish(late)
        finally:
            self.close()

    def _finish(self, late: Callable[[], bool]) -> None:
        """The last passes: what is waiting, what posting made of it, and then our own closed segments."""
        self.deliver_once(late)
        if self._webhook is not None:
            self._webhook.close(self._host.config.exit_timeout_s / 2)
        self._host.leave()
        self.deliver_once(late)

    def deliver_once(self, late: Callable[[], bool] = lambda: False) -> int | RetryLater:
        """One pass: how many records were handed over, or why to try again."""
        if late():
            return 0
        outcome = self.drain.run_pass(self._resolved(), stop=late)
        if isinstance(outcome, RetryLater):
            self._forget_target()
        return outcome

    def _resolved(self) -> Target:
        self._passes += 1
        if self._passes % _RESOLVE_PASSES == 0:
            self._forget_target()
        if self._target is None:
            self._target = self._resolve(self._host.config)
        return self._target

    def _forget_target(self) -> None:
        target, self._target = self._target, None
        if target is not None:
            target.close()

    def _sleep(self, seconds: float) -> None:
        """Wait before a retry, less when somebody flushes or stops."""
        self._flush_requested.wait(seconds)
        self._flush_requested.clear()

    def close(self) -> None:
        """Give up the target and the locks of gone writers."""
        self._forget_target()
        self.drain.release()
