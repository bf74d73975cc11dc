"""A thread of the service that looks for spans whose root span never arrived (`storage.silence`)."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection

from otel_agent_telemetry.clock import Clock
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.otel import conventions as names
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
        return close_silent(connection, now_ns=self._clock.now_ns(), silence_s=self._silence_s, agent_of=_agent_of)


def _agent_of(attributes: Mapping[str, Any]) -> str | None:
    return next((name for key in names.AGENT_NAMES if (name := attributes.get(key)) and isinstance(name, str)), None)
