"""Delivery of the buffer under the service's own base directory, so that no record waits on its host.

The service follows the same rule as every agent (design, invariant 3): the holder of the
drain lock delivers for all. An agent that holds it delivers to this service over HTTP; when
that agent ends, or none runs, the service takes the lock and gives the batches to its writer.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Final

from otel_agent_telemetry.clock import Clock
from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.counters import Counters
from otel_agent_telemetry.delivery.deliverer import DeliveryLoop
from otel_agent_telemetry.delivery.outcome import Batch, Delivered, Outcome, RetryLater, deliver_bisected
from otel_agent_telemetry.delivery.suppress_instrumentation import suppress_instrumentation
from otel_agent_telemetry.errors import SchemaError, StorageError, StoreUnavailableError
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.recording.journal_writer import JournalWriter
from otel_agent_telemetry.service.error_responses import OverloadedError
from otel_agent_telemetry.service.writer import GroupWriter
from otel_agent_telemetry.storage.store import WriteBatch

_log = logging.getLogger(__name__)
_POLL_S: Final = 0.5
_STOP_TIMEOUT_S: Final = 10.0
_COMMIT_TIMEOUT_S: Final = 120.0


class WriterTarget:
    """The service's own writer as a target of the drain."""

    def __init__(self, writer: GroupWriter, name: str) -> None:
        self.name = name
        self._writer = writer

    def deliver(self, batch: Batch) -> Outcome:
        """Commit a batch; values that the database refuses are found by halving it. Blocks up to 120 s."""
        try:
            # Longer than any request waits: a batch that times out here is written again, which is harmless.
            self._writer.submit(WriteBatch(batch.states, batch.links)).result(_COMMIT_TIMEOUT_S)
        except (StoreUnavailableError, SchemaError, OverloadedError) as problem:
            return RetryLater(str(problem))
        except (FutureTimeoutError, TimeoutError):
            return RetryLater(f"{self.name} did not commit within {_COMMIT_TIMEOUT_S:g} s")
        except StorageError as problem:
            return deliver_bisected(self, batch, str(problem))
        return Delivered()

    def close(self) -> None:
        """Do nothing: the writer belongs to the service."""


class BufferDrain:
    """A thread that delivers the buffer while no other process does. Implements `DeliveryHost` for its deliverer."""

    def __init__(self, config: TelemetryConfig, writer: GroupWriter, *, clock: Clock) -> None:
        self.config = config
        self.clock = clock
        self.counters = Counters()
        self._writer = writer
        self._journal = JournalWriter(config, clock=clock, counters=self.counters)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="agent-telemetry-drain", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the current batch and release the drain lock. Idempotent. Blocks up to 10 s."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(_STOP_TIMEOUT_S)

    def _run(self) -> None:
        loop = DeliveryLoop(
            self, stop=self._stop, next_work=self._next_work, late=self._stop.is_set, resolve=self._target
        )
        with suppress_instrumentation():
            loop.run()

    def _target(self, _config: TelemetryConfig) -> WriterTarget:
        return WriterTarget(self._writer, "this service")

    def _next_work(self) -> None:
        self._stop.wait(_POLL_S)

    def leave(self) -> None:
        """Do nothing: this host writes no segments of its own."""

    def record_run(self, fields: Fields) -> None:
        """Write the state of a run that was posted to the webhook to the database, and to the journal."""
        self._writer.submit(WriteBatch((RunRecord.from_fields(fields),)))
        self.journal_run(fields)

    def journal_run(self, fields: Fields) -> None:
        """Write a state that is in the database already to the journal, where `replay` finds it."""
        self._journal.write_run(fields)
