"""A thread of the service that looks for what has been silent: spans whose root never arrived, and turns.

The rules are `storage.silence`'s and `storage.turns`'.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection

from otel_agent_telemetry.clock import Clock
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.otel.mapping import agent_name_attribute
from otel_agent_telemetry.service.service_thread import ServiceThread
from otel_agent_telemetry.service.writer import GroupWriter, change_job
from otel_agent_telemetry.storage.silence import close_silent
from otel_agent_telemetry.storage.turns import close_silent_turns

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
        self._thread = ServiceThread(self._run, name="silence", stop_timeout_s=_STOP_TIMEOUT_S)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread. Idempotent. Blocks up to 5 s."""
        self._thread.stop()

    def _run(self) -> None:
        """Have the writer look for silent traces now and then, until the watch is stopped."""
        while not self._thread.stopping.wait(min(max(self._silence_s / 4, _LEAST_S), _MOST_S)):
            # Given to the writer, which alone writes; a queue that is full drops it, and the next turn comes soon.
            self._writer.accept((change_job(self.close_silent),))

    def close_silent(self, connection: Connection) -> int:
        """End turns that are silent, and make runs of spans that have waited in silence; return how many."""
        now_ns, silence_s = self._clock.now_ns(), self._silence_s
        ended = close_silent_turns(connection, now_ns=now_ns)
        if not self._is_wanted:
            return ended
        return ended + close_silent(connection, now_ns=now_ns, silence_s=silence_s, agent_of=agent_name_attribute)
