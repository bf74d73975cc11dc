"""A thread of the service that looks for spans whose root span never arrived (`storage.silence`)."""

from __future__ import annotations

import threading
from typing import Final

from sqlalchemy import Connection

from otel_agent_telemetry.clock import Clock
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.otel.mapping import agent_name_attribute
from otel_agent_telemetry.service.writer import GroupWriter, change_job
from otel_agent_telemetry.storage.silence import close_silent

_MOST_S: Final = 60.0
_LEAST_S: Final = 1.0
_STOP_TIMEOUT_S: Final = 5.0


class SilenceWatch:
    """Looks four times in the time of a silence, once a minute at least."""

    def __init__(self, config: TelemetryConfig, writer: GroupWriter, *, clock: Clock) -> None:
        self._silence_s = config.silence_s
        self._is_wanted = config.runs == "root"
        """Whether a root span is a run at all."""
        self._writer = writer
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="agent-telemetry-silence", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        if self._is_wanted:
            self._thread.start()

    def stop(self) -> None:
        """End the thread. Idempotent. Blocks up to 5 s."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(_STOP_TIMEOUT_S)

    def _run(self) -> None:
        while not self._stop.wait(min(max(self._silence_s / 4, _LEAST_S), _MOST_S)):
            self._writer.accept((change_job(self.close_silent),))

    def close_silent(self, connection: Connection) -> int:
        """Make runs of what has waited in silence; return how many."""
        now_ns, silence_s = self._clock.now_ns(), self._silence_s
        return close_silent(connection, now_ns=now_ns, silence_s=silence_s, agent_of=agent_name_attribute)
