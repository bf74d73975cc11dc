"""A thread of the service that keeps the figures of agents and costs up to date (`storage.figure_refresh`)."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Final

from sqlalchemy import Connection, Engine

from otel_agent_telemetry.clock import Clock
from otel_agent_telemetry.delivery.suppress_instrumentation import suppress_instrumentation
from otel_agent_telemetry.errors import StorageError
from otel_agent_telemetry.service.responses import OverloadedError
from otel_agent_telemetry.service.writer import GroupWriter
from otel_agent_telemetry.storage.engine import reading
from otel_agent_telemetry.storage.figure_refresh import Refresh, next_refresh

_log: Final = logging.getLogger(__name__)
_PAUSE_S: Final = 1.0
_REST: Final = 3.0
"""A refresh is followed by a rest so many times as long: requests come first, however many hours wait."""
_REST_WHEN_BUSY: Final = 19.0
"""The same while runs arrive: figures then take a twentieth of the time."""
_BUSY_PER_S: Final = 20
"""Items that the writer commits in a second from which the service counts as busy."""
_MOST_S: Final = 60.0
_STOP_TIMEOUT_S: Final = 5.0


class FigureWatch:
    """Refreshes one day after the other while any has changed, and looks once a second for the next."""

    def __init__(self, writer: GroupWriter, read_engine: Callable[[], Engine], *, clock: Clock) -> None:
        self._writer = writer
        self._read_engine = read_engine
        self._clock = clock
        self._refreshing = threading.Lock()
        self._is_turn_of_older = False
        self._older_than: str | None = None
        """The day that an older one was refreshed last, or the newest; None to begin with the newest again."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="agent-telemetry-figures", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread. Idempotent. Blocks up to 5 s."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(_STOP_TIMEOUT_S)

    def _run(self) -> None:
        pause_s, items = 0.0, 0
        while not self._stop.wait(pause_s):
            began = time.monotonic()
            try:
                self.refresh()
            except (StorageError, OverloadedError) as problem:
                # What was noted stays noted, and the next look finds it.
                _log.debug("figures of agents wait: %s", problem)
            took_s, before, items = time.monotonic() - began, items, self._writer.stats.items
            is_busy = items - before > _BUSY_PER_S * (pause_s + took_s)
            pause_s = min(max(_PAUSE_S, (_REST_WHEN_BUSY if is_busy else _REST) * took_s), _MOST_S)

    def refresh(self) -> bool:
        """Bring a day that has changed up to date; return whether there was one. Raises StorageError."""
        today = datetime.fromtimestamp(self._clock.now_ns() / 1e9, UTC).date()
        operation = "summing runs of"
        with self._refreshing, suppress_instrumentation(), reading(self._read_engine(), operation) as connection:
            found = self._next(connection, today)
            if connection.dialect.name == "sqlite":
                # Without a write-ahead log a view that is open keeps the writer from its commit. On PostgreSQL it
                # holds the lock against other services until the figures are written.
                connection.rollback()
            if found is not None:
                self._writer.commit(found.write, stopping=self._stop)
        return found is not None

    def _next(self, connection: Connection, today: date) -> Refresh | None:
        """Return the newest day's refresh and that of an older one by turns, so that neither waits for the other."""
        if self._older_than is not None and self._is_turn_of_older:
            found = next_refresh(connection, today, before=self._older_than)
            self._is_turn_of_older = False
            self._older_than = None if found is None else found.day
            if found is not None:
                return found
        found = next_refresh(connection, today)
        if found is not None:
            self._is_turn_of_older = True
            self._older_than = self._older_than or found.day
        return found

    def refresh_all(self) -> None:
        """Bring every day up to date. Blocks; for tests and measurements."""
        while self.refresh():
            pass
