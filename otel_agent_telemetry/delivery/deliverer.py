"""Delivery in the background: which process delivers, to which target, and in which passes.

`DeliveryLoop` is the one deliverer of a buffer folder, for a recording process, a command or a
service: it takes the drain lock and runs a `Deliverer`, or runs one beside a process that holds
the lock and stands still. A `Deliverer` makes passes of the drain with one target at a time and
waits after a failure as `outcome.Backoff` has it.

`resolve_target` chooses the target (design, "Which target"). `TELEMETRY_API_URL` given: that
service and nothing else. Not given: a service that holds this base directory's database, or one
at the default address that identifies itself as ours; when there is none, the database itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from otel_agent_telemetry.clock import SystemClock
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.drain import Drain
from otel_agent_telemetry.delivery.drain_lock import DrainLock
from otel_agent_telemetry.delivery.host import DeliveryHost
from otel_agent_telemetry.delivery.journal_drain import JournalDrain
from otel_agent_telemetry.delivery.local_service import local_service_url
from otel_agent_telemetry.delivery.outcome import Backoff, RetryLater, Target
from otel_agent_telemetry.interpreter import importing
from otel_agent_telemetry.last_activity import ActivityJournal

if TYPE_CHECKING:
    from otel_agent_telemetry.delivery.webhook import Webhook


_RESOLVE_AGAIN_S: Final = 120.0
"""How long a target is kept before we look again whether a service has come up."""
_WAIT_STEP_S: Final = 1.0
_LAST_WAIT_S: Final = 0.5
NOT_YET: Final = "the wait after the last attempt is not over"
"""Reason of a pass that sent nothing."""
LOOK_EVERY_S: Final = 0.5
"""How often a process that does not deliver looks whether it should."""


def resolve_target(config: TelemetryConfig) -> Target:
    """Return the target that runs of this configuration go to now. Blocks for up to about a second.

    Each target is imported where it is chosen: a process that delivers to SQLite never loads an
    HTTP client or SQLAlchemy.
    """
    url = config.api_url or local_service_url(config)
    if url is not None:
        with importing():
            from otel_agent_telemetry.delivery.http_target import HttpTarget

        return HttpTarget(url, config)
    if config.database_url is None:
        with importing():
            from otel_agent_telemetry.delivery.sqlite_target import SqliteTarget

        return SqliteTarget(config)
    with importing():
        from otel_agent_telemetry.delivery.database_target import DatabaseTarget

    return DatabaseTarget(config)


class Deliverer:
    """Delivers until `stop` is set. One thread.

    `resolve` returns which target runs go to now; by default as `resolve_target` does.
    `on_progress` is called after each batch and pass, and each second of waiting;
    `rest` as `drain.Drain` has it, `archives` as `journal_drain.JournalDrain`.
    """

    def __init__(
        self,
        host: DeliveryHost,
        *,
        stop: threading.Event,
        resolve: Callable[[TelemetryConfig], Target] = resolve_target,
        on_progress: Callable[[], None] = lambda: None,
        rest: Callable[[], None] = lambda: None,
        archives: bool = False,
    ) -> None:
        self._host = host
        self._resolve = resolve
        self._stop = stop
        self._on_progress = on_progress
        self._target: Target | None = None
        self._resolved_at = 0.0
        self._backoff = Backoff()
        self.retry_at = 0.0
        """When the target may be asked again after a failure, by the monotonic clock; 0.0 when at once."""
        self._webhook = self._make_webhook()
        self.drain = Drain(
            host.config.buffer_dir,
            journal=ActivityJournal(host.config.ndjson_dir, host.new_usage_sum),
            clock=host.clock,
            counters=host.counters,
            on_delivered=None if self._webhook is None else self._webhook.post,
            on_closed=host.journal_run,
            on_batch=on_progress,
            rest=rest,
        )
        self._journal = JournalDrain(
            host,
            self.drain.health,
            open_runs=self.drain.open_runs,
            on_batch=on_progress,
            rest=rest,
            archives=archives,
        )

    def _make_webhook(self) -> Webhook | None:
        """Return the webhook; None where the settings ask for none, or lack its address or token."""
        config = self._host.config
        if not config.sheets_enabled or not config.sheets_url:
            return None
        if config.sheets_auth_required and not config.sheets_token:
            return None
        with importing():
            from otel_agent_telemetry.delivery.webhook import Webhook  # an HTTP client costs 20 ms to import

        return Webhook(
            config,
            clock=self._host.clock,
            counters=self._host.counters,
            on_posted=self._host.record_run,
        )

    def run(
        self, next_work: Callable[[], None], late: Callable[[], bool], give_way: Callable[[], bool] = lambda: False
    ) -> bool:
        """Deliver until `stop` is set, then once more; `late` ends that last pass early.

        `give_way` ends it at once, before the next pass. Return whether the last pass was made.
        """
        try:
            failed = False
            while not self._stop.is_set() and not give_way():
                self._wait() if failed else next_work()
                if not self._stop.is_set():  # else the last pass follows at once
                    failed = isinstance(self.deliver_once(late), RetryLater)
            if not self._stop.is_set():
                return False
            self._finish(late)
            return True
        finally:
            self.close()

    def _finish(self, late: Callable[[], bool]) -> None:
        """Make the last pass, over our own segments too, which are closed; one before it gives the webhook its runs.

        A wait after a failure that is nearly over is waited for; during a longer one nothing is sent.
        """
        left_s = self.retry_at - SystemClock.monotonic_s()
        if 0 < left_s <= _LAST_WAIT_S and not late():
            time.sleep(left_s)
        # Order matters: the first pass gives the webhook its runs, the webhook's answers are recorded as states,
        # and only after `leave` are our own segments final, so that the last pass can deliver and remove them.
        if self._webhook is not None:
            self.deliver_once(late)
            # Half of the time at exit: a slow webhook must not take what the last delivery needs.
            self._webhook.close(self._host.config.exit_timeout_s / 2)
        self._host.leave()
        self.deliver_once(late)

    def deliver_once(self, late: Callable[[], bool] = lambda: False) -> int | RetryLater:
        """Make one pass; return how many records were handed over, or why to try again.

        Nothing is sent before the wait after the last failure is over.
        """
        if late():
            return 0
        wait_s = self.retry_at - SystemClock.monotonic_s()
        if wait_s > 0:
            return RetryLater(NOT_YET, wait_s)
        outcome = self._deliver_all(self._resolved(), late)
        if isinstance(outcome, RetryLater):
            self.retry_at = SystemClock.monotonic_s() + self._backoff.after(outcome)
            # Look anew whether a service has come up or gone; a target that failed may be the wrong one by now.
            self._forget_target()
        else:
            self.retry_at = 0.0
            self._backoff.reset()
        self._on_progress()
        return outcome

    def _deliver_all(self, target: Target, late: Callable[[], bool]) -> int | RetryLater:
        """Deliver the buffer, and the journal behind it; the buffer again each second that the journal takes."""
        delivered = 0
        # Before a state is confirmed: whoever waits for it looks in the health whether lines are to follow.
        self._journal.ask(target)
        self.drain.note(0)
        while True:
            outcome = self.drain.run_pass(target, stop=late)
            if isinstance(outcome, RetryLater):
                return outcome
            lines = self._journal.run_pass(target, stop=late)
            self.drain.note(lines)
            if isinstance(lines, RetryLater):
                return lines
            delivered += outcome + lines
            if not self._journal.has_more or late():
                return delivered

    def _resolved(self) -> Target:
        """Return the target, looked for again every so often: a service may have been started since."""
        now = SystemClock.monotonic_s()
        if self._target is not None and now - self._resolved_at >= _RESOLVE_AGAIN_S:
            self._forget_target()
        if self._target is None:
            self._target, self._resolved_at = self._resolve(self._host.config), now
        return self._target

    def _forget_target(self) -> None:
        """Close the target; the next pass looks for it anew."""
        # Before the close, which may raise: a half-closed target must not be used again.
        target, self._target = self._target, None
        if target is not None:
            target.close()

    def _wait(self) -> None:
        """Wait for the next attempt. Only stopping cuts it short: a flush does not shorten it."""
        while (left_s := self.retry_at - SystemClock.monotonic_s()) > 0 and not self._stop.wait(
            min(left_s, _WAIT_STEP_S)
        ):
            self._on_progress()

    def close(self) -> None:
        """Close the target and let go of the locks of gone writers."""
        self._forget_target()
        self.drain.release()


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
        archives: bool = False,
    ) -> None:
        self._host = host
        self._archives = archives
        self._stop = stop
        self._next_work = next_work
        self._late = late
        self._resolve = resolve
        self._rest = rest
        self._lock = DrainLock(host.config.buffer_dir)
        self._deliverer: Deliverer | None = None

    @property
    def retry_at(self) -> float:
        """Return when the next attempt may be made after one that failed, by the monotonic clock; else 0.0."""
        deliverer = self._deliverer
        return 0.0 if deliverer is None else deliverer.retry_at

    def run(self) -> None:
        """Deliver, or look twice a second whether to, until `stop` is set; and once more then."""
        while True:
            stopping, finished = self._stop.is_set(), False
            try:
                finished = self._deliver_if_needed()
            # Broad on purpose: this thread lives as long as the process, and one bad pass must not end delivery.
            except Exception as problem:  # the outer edge of the background
                self._host.counters.internal("delivery", problem)
            # `stopping` was read before: a stop while another process delivers, or during a pass that an error
            # ended, is followed by one more look.
            if stopping or finished:
                return
            self._stop.wait(LOOK_EVERY_S)

    def _deliver_if_needed(self) -> bool:
        """Deliver while that is ours to do; return whether the last pass was made."""
        if not self._host.config.buffer_dir.is_dir():
            return False
        try:
            if self._lock.try_acquire():
                return self._deliver(lambda: False)
            # Two deliverers at once are safe (delivery is idempotent, `confirm` never goes back), only wasteful.
            if self._lock.holder_stalled():
                self._host.counters.warn("stalled", "the process that delivers stands still; delivering beside it")
                return self._deliver(lambda: not self._lock.holder_stalled())
            return False
        finally:
            self._lock.release()

    def _deliver(self, give_way: Callable[[], bool]) -> bool:
        """Deliver with the lock held, or beside a holder that stands still until it gets on."""
        deliverer = Deliverer(
            self._host,
            stop=self._stop,
            resolve=self._resolve,
            on_progress=self._lock.note_progress,
            rest=self._rest,
            archives=self._archives,
        )
        self._deliverer = deliverer
        try:
            return deliverer.run(self._next_work, self._late, give_way)
        finally:
            self._deliverer = None
