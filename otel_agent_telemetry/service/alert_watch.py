"""A thread of the service that evaluates the rules of alerts every 30 seconds (`storage.alert_evaluation`).

It reads the file of rules again when it changes. Without rules and without open alerts it does nothing
but look for the file. Of several services on one database one evaluates; all of them know what is open.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from sqlalchemy import Engine

from otel_agent_telemetry.alert_file import AlertFile
from otel_agent_telemetry.alert_judging import TICK_S, tick_ns
from otel_agent_telemetry.clock import Clock
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.suppress_instrumentation import suppress_instrumentation
from otel_agent_telemetry.errors import StorageError
from otel_agent_telemetry.service.alert_posting import AlertPosting
from otel_agent_telemetry.service.responses import OverloadedError
from otel_agent_telemetry.service.service_thread import ServiceThread
from otel_agent_telemetry.service.writer import GroupWriter
from otel_agent_telemetry.storage.alert_evaluation import Evaluation, evaluate
from otel_agent_telemetry.storage.alert_readings import Seen
from otel_agent_telemetry.storage.alert_state import Alert, open_alerts
from otel_agent_telemetry.storage.engine import reading

_log: Final = logging.getLogger(__name__)
_NS: Final = 1_000_000_000
_AFTER_S: Final = 2.0
"""How long after an instant it is evaluated: what happened before it arrives within a second or so."""
_STOP_TIMEOUT_S: Final = 5.0
_KNOWN: Final = 1_000
"""Open alerts that are kept in memory at most, the newest."""


class AlertWatch:
    """Evaluates the rules, and posts the notices. `open`: the alerts that were open at the last look."""

    def __init__(
        self,
        config: TelemetryConfig,
        writer: GroupWriter,
        read_engine: Callable[[], Engine],
        *,
        clock: Clock,
        address: Callable[[], str],
    ) -> None:
        """Make a watch. `address` returns the URL of the service, for the links of notices."""
        self.file = AlertFile(config)
        self.open: tuple[Alert, ...] = ()
        self._config = config
        self._writer = writer
        self._read_engine = read_engine
        self._clock = clock
        self._address = address
        self._seen = Seen()
        self._evaluating = threading.Lock()
        self._thread = ServiceThread(self._run, name="alerts", stop_timeout_s=_STOP_TIMEOUT_S)
        self.posting = AlertPosting(config, writer, clock=clock)

    def start(self) -> None:
        """Read the rules, log what is wrong with them, and start the threads."""
        self._look()
        self._thread.start()
        self.posting.start()

    def stop(self) -> None:
        """End the threads. Idempotent. Blocks up to 10 s."""
        self._thread.stop()
        self.posting.stop()

    def _run(self) -> None:
        # At once, for what happened while no service ran.
        wait_s = _AFTER_S
        while not self._thread.stopping.wait(wait_s):
            try:
                self.evaluate()
            except (StorageError, OverloadedError) as problem:
                _log.warning("alerts wait: %s", problem)
            wait_s = TICK_S + _AFTER_S - (self._clock.now_ns() / _NS) % TICK_S

    def _look(self) -> None:
        """Read the file again if it has changed, and log what is wrong with it."""
        if not self.file.look():
            return
        for problem in self.file.problems:
            _log.error("%s %s", self.file.path, problem)
        if self.file.problems:
            _log.error("the rules of alerts stay as they were: %d", len(self.file.rules.rules))
            return
        for refused in self.file.rules.refused:
            _log.warning("%s %s", self.file.path, refused)
        if self.file.rules.rules:
            _log.info("%d rules of alerts are in force", len(self.file.rules.rules))

    def evaluate(self) -> Evaluation | None:
        """Evaluate the last instant; None where there is nothing to do, or another service does it. Blocks.

        Raises StorageError, OverloadedError.
        """
        # A test, or a request some day, may evaluate beside the thread; `_seen` is not shared.
        with self._evaluating, suppress_instrumentation():
            self._look()
            with reading(self._read_engine(), "evaluating alerts of") as connection:
                rules = self.file.rules.rules
                found = None
                if rules or open_alerts(connection, limit=1):
                    found = evaluate(connection, rules, tick_ns(self._clock.now_ns()), self._seen)
                if connection.dialect.name == "sqlite":
                    # A view that is open keeps the writer from its commit. On PostgreSQL it holds the lock.
                    connection.rollback()
                if found is not None and found.must_be_written(connection):
                    self._write(found)
                self.open = tuple(open_alerts(connection, limit=_KNOWN))
            # After the commit: the notices are in their table now.
            if found is not None and found.has_changes:
                self.posting.wake()
            return found

    def _write(self, found: Evaluation) -> None:
        """Commit what an evaluation changes. Raises StorageError, OverloadedError."""
        config = self._config
        self._writer.commit(
            lambda connection: found.write(
                connection,
                address=self._address(),
                is_posted=config.alerts_url is not None,
                kept_days=config.retention_days,
            ),
            stopping=self._thread.stopping,
        )
