"""Counts of what this process has written and failed to write, for `doctor`.

Plain integers: concurrent `+=` may lose a count now and then, which is accepted, because a
lock would delay the application's thread.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass, field
from typing import Any

_log = logging.getLogger("otel_agent_telemetry")
_LOG_EVERY_S = 60.0
_MAX_ERROR = 300


@dataclass(slots=True, eq=False)
class Counters:
    """Counts since the process, or the forked child, started."""

    run_states: int = 0
    events: int = 0
    spans: int = 0
    last_seq: int = 0
    journal_failed: int = 0
    buffer_failed: int = 0
    lost: int = 0
    """Lines that neither the journal nor the buffer took."""
    clamped: int = 0
    internal_errors: int = 0
    last_error: str = ""
    _logged: dict[str, float] = field(default_factory=dict, repr=False)

    def failed(self, what: str, problem: BaseException) -> None:
        """Keep a failure as the last error and log it with its cause, at most once a minute for each `what`."""
        self.last_error = f"{what}: {type(problem).__name__}: {problem}"[:_MAX_ERROR]
        self.warn(what, "%s failed: %s: %s", what, type(problem).__name__, problem)

    def internal(self, what: str, problem: BaseException) -> None:
        """Count and log an internal error that was caught at an outer edge."""
        self.internal_errors += 1
        self.failed(what, problem)
        _log.debug("%s", what, exc_info=problem)

    def warn(self, topic: str, message: str, *args: object) -> None:
        """Log a warning, at most once a minute for each topic."""
        now = time.monotonic()
        if now - self._logged.get(topic, -_LOG_EVERY_S) >= _LOG_EVERY_S:
            self._logged[topic] = now
            _log.warning(message, *args)

    def as_dict(self) -> dict[str, Any]:
        """Return the counts that are not zero."""
        return {name: value for name, value in asdict(self).items() if value and not name.startswith("_")}
