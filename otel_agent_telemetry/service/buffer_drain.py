"""The drain of the buffer and the journal beside a service, whose target is the service's own writer.

The service delivers like any process of its host: while it holds the drain lock. So what agents
left under its base directory is in its database after it started, events and steps too.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import replace
from typing import Final

from otel_agent_telemetry.bisection import Bisection
from otel_agent_telemetry.clock import Clock
from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.counters import Counters
from otel_agent_telemetry.deliverer_report import DelivererReport
from otel_agent_telemetry.delivery.deliverer import DeliveryLoop
from otel_agent_telemetry.delivery.outcome import Batch, Delivered, Outcome, Rejected, RetryLater, deliver_bisected
from otel_agent_telemetry.delivery.suppress_instrumentation import suppress_instrumentation
from otel_agent_telemetry.errors import SchemaError, StorageError, StoreUnavailableError
from otel_agent_telemetry.last_activity import StepUsageSum
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.otel.left_open_usage import LeftOpenUsage
from otel_agent_telemetry.recording.journal_writer import JournalWriter
from otel_agent_telemetry.service.record_lines import batch_of, parse_lines
from otel_agent_telemetry.service.responses import OverloadedError
from otel_agent_telemetry.service.service_thread import ServiceThread
from otel_agent_telemetry.service.writer import GroupWriter
from otel_agent_telemetry.storage.store import WriteBatch

_POLL_S: Final = 0.5
_STOP_TIMEOUT_S: Final = 10.0
_COMMIT_TIMEOUT_S: Final = 120.0


class WriterTarget:
    """The service's own writer as a target of the drain."""

    has_states = True

    def __init__(self, writer: GroupWriter, name: str, *, store_id: str | None) -> None:
        self.name = name
        self._writer = writer
        self._store_id = store_id

    def deliver(self, batch: Batch) -> Outcome:
        """Commit a batch; values that the database refuses are found by halving it. Blocks up to 120 s."""
        try:
            outcome = self._commit(WriteBatch(batch.states, batch.links))
        except StorageError as problem:
            return deliver_bisected(self, batch, str(problem))
        return outcome or Delivered()

    def store(self) -> str | None:
        """Return the id of the database."""
        return self._store_id

    def deliver_lines(self, body: bytes, report: DelivererReport) -> Delivered | RetryLater:
        """Commit lines of a journal; what the database refuses is found by halving it. Blocks up to 120 s."""
        found = parse_lines(body)
        bisection = Bisection(found.items)
        for items in bisection if found.items else ():
            try:
                outcome = self._commit(replace(batch_of(items), reports=(report,)))
            except StorageError as problem:
                bisection.refuse(str(problem))
            else:
                if outcome is not None:
                    return outcome
        if not found.items and (outcome := self._commit(WriteBatch(reports=(report,)))) is not None:
            return outcome
        refused = [(found.items[at][0], reason) for at, reason in bisection.refused]
        refused += [(one.line, one.reason) for one in found.refused]
        return Delivered(tuple(Rejected(line - 1, reason) for line, reason in refused))

    def _commit(self, batch: WriteBatch) -> RetryLater | None:
        """Commit a batch; return when to try again if that cannot be done now. Raises StorageError."""
        try:
            # Longer than any request waits: a batch that times out here is written again, which is harmless.
            self._writer.submit(batch).result(_COMMIT_TIMEOUT_S)
        except (StoreUnavailableError, SchemaError, OverloadedError) as problem:
            return RetryLater(str(problem))
        except (FutureTimeoutError, TimeoutError):
            return RetryLater(f"{self.name} did not commit within {_COMMIT_TIMEOUT_S:g} s")
        return None

    def close(self) -> None:
        """Do nothing: the writer belongs to the service."""


class BufferDrain:
    """A thread that delivers the buffer while no other process does. Implements `DeliveryHost` for its deliverer."""

    def __init__(
        self, config: TelemetryConfig, writer: GroupWriter, *, clock: Clock, store_id: Callable[[], str | None]
    ) -> None:
        self.config = config
        self.clock = clock
        self.counters = Counters()
        self.new_usage_sum: Callable[[], StepUsageSum] | None = LeftOpenUsage
        self._writer = writer
        self._store_id = store_id
        self._journal = JournalWriter(config, clock=clock, counters=self.counters)
        self._thread = ServiceThread(self._run, name="drain", stop_timeout_s=_STOP_TIMEOUT_S)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the current batch and release the drain lock. Idempotent. Blocks up to 10 s."""
        self._thread.stop()

    def _run(self) -> None:
        """Deliver until the drain is stopped."""
        loop = DeliveryLoop(
            self,
            stop=self._thread.stopping,
            next_work=self._next_work,
            late=self._thread.stopping.is_set,
            resolve=self._target,
            archives=True,
        )
        with suppress_instrumentation():
            loop.run()

    def _target(self, _config: TelemetryConfig) -> WriterTarget:
        """Return the writer as the target, whatever the configuration names: the service delivers to itself."""
        return WriterTarget(self._writer, "this service", store_id=self._store_id())

    def _next_work(self) -> None:
        """Wait until the next look at the buffer; `stop` ends the wait."""
        self._thread.stopping.wait(_POLL_S)

    def leave(self) -> None:
        """Do nothing: this host writes no segments of its own."""

    def record_run(self, fields: Fields) -> None:
        """Write the state of a run that was posted to the webhook to the database, and to the journal."""
        self._writer.submit(WriteBatch((RunRecord.from_fields(fields),)))
        self.journal_run(fields)

    def journal_run(self, fields: Fields) -> None:
        """Write a state that is in the database already to the journal, where `replay` finds it."""
        self._journal.write_run(fields)
