"""Delivering a host's buffer for as long as a process is asked to: `agent-telemetry deliver`."""

from __future__ import annotations

import threading
import time
from typing import Final

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.loop import DeliveryLoop
from otel_agent_telemetry.delivery.suppress_instrumentation import suppress_instrumentation
from otel_agent_telemetry.operations.deliver_now import upgrade_old_file
from otel_agent_telemetry.recording.recorder import Recorder

_PASS_EVERY_S: Final = 1.0


def deliver_until_stopped(config: TelemetryConfig, stop: threading.Event) -> None:
    """Deliver what every process of this host buffers, until `stop` is set; then once more.

    Blocks. While another process delivers it looks twice a second whether that one has ended
    or stands still. The last pass takes at most about `exit_timeout_s` seconds; what is left
    waits in the buffer. Creates no folder.
    """
    upgrade_old_file(config)
    recorder = Recorder(config)
    deadline: list[float] = []

    def late() -> bool:
        if not stop.is_set():
            return False
        if not deadline:
            deadline.append(time.monotonic() + config.exit_timeout_s)
        return time.monotonic() >= deadline[0]

    loop = DeliveryLoop(recorder, stop=stop, next_work=lambda: _pause(stop), late=late)
    try:
        # Our own HTTP requests must not become spans, and so runs, of an instrumented process.
        with suppress_instrumentation():
            loop.run()
    finally:
        recorder.close(timeout_s=config.exit_timeout_s)


def _pause(stop: threading.Event) -> None:
    stop.wait(_PASS_EVERY_S)
