"""A thread of the service that works until it is stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable


class ServiceThread:
    """Runs `work` in a daemon thread from `start` to `stop`.

    `work` returns soon after `stopping` is set, and waits on that event where it has nothing to do. Whatever it
    raises ends the thread and not the service. `stop_timeout_s`: seconds that `stop` waits for the thread.
    """

    def __init__(self, work: Callable[[], None], *, name: str, stop_timeout_s: float) -> None:
        self.stopping = threading.Event()
        self._stop_timeout_s = stop_timeout_s
        # A daemon: a service whose database hangs must still be able to exit.
        self._thread = threading.Thread(target=work, name=f"agent-telemetry-{name}", daemon=True)

    def start(self) -> None:
        """Start the thread. Raises RuntimeError the second time."""
        self._thread.start()

    def stop(self) -> None:
        """Set `stopping` and wait for the thread, up to its timeout. Idempotent; harmless before `start`."""
        self.stopping.set()
        # Joining a thread that was never started raises; a service that fails while it starts stops everything.
        if self._thread.ident is not None:
            self._thread.join(self._stop_timeout_s)
