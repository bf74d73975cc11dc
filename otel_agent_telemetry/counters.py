"""Counts of what this process has written and failed to write, for `doctor`.

Plain integers: concurrent `+=` may lose a count now and then, which is accepted, because a
lock would delay the application's thread.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from typing import Any

_log = logging.getLogger("otel_agent_telemetry")
_LOG_EVERY_S = 60.0
_MAX_ERROR = 300


class Counters:
    """Counts since the process, or the forked child, started.

    `lost`: lines that neither the journal nor the buffer took.
    """

    # Written out, because a dataclass would be a millisecond of every start.
    __slots__ = (
        *("run_states", "events", "spans", "last_seq", "journal_failed", "buffer_failed", "lost", "clamped"),
        *("internal_errors", "failed_span_starts", "last_error", "_logged"),
    )

    def __init__(self) -> None:
        self.run_states = self.events = self.spans = self.last_seq = 0
        self.journal_failed = self.buffer_failed = self.lost = 0
        self.clamped = self.internal_errors = self.failed_span_starts = 0
        self.last_error = ""
        self._logged: dict[str, float] = {}

    def failed(self, what: str, problem: BaseException) -> None:
        """Keep a failure as the last error and log it with its cause, at most once a minute for each `what`."""
        self.last_error = f"{what}: {type(problem).__name__}: {problem}"[:_MAX_ERROR]
        self.warn(what, "%s failed: %s: %s", what, type(problem).__name__, problem)

    def internal(self, what: str, problem: BaseException) -> None:
        """Count and log an internal error that was caught at an outer edge."""
        self.internal_errors += 1
        self.failed(what, problem)
        _log.debug("%s", what, exc_info=problem)

    def span_start_failed(self, problem: BaseException) -> bool:
        """Count a span that could not be begun; return whether it is the first, and nothing was recorded before it.

        One line on stderr names it then, also where the application logs into a file: nothing else shows that its
        runs are missing.
        """
        self.failed_span_starts += 1
        is_first = self.failed_span_starts == 1 and not (self.run_states or self.spans or self.events)
        if is_first:
            message = "span start failed, nothing is recorded so far: %s: %s; `agent-telemetry doctor` has more"
            words = type(problem).__name__, str(problem)[:_MAX_ERROR]
            self.warn("span start", message, *words)
            # Without any handler logging itself has printed the line there.
            if _log.hasHandlers():
                with contextlib.suppress(OSError, ValueError, AttributeError):  # stderr is closed, or None
                    print(f"[ERROR] Telemetry: {message % words}", file=sys.stderr)  # noqa: T201
        self.internal("span start", problem)
        return is_first

    def warn(self, topic: str, message: str, *args: object) -> None:
        """Log a warning, at most once a minute for each topic."""
        now = time.monotonic()
        if now - self._logged.get(topic, -_LOG_EVERY_S) >= _LOG_EVERY_S:
            self._logged[topic] = now
            _log.warning(message, *args)

    def as_dict(self) -> dict[str, Any]:
        """Return the counts that are not zero."""
        return {name: value for name in self.__slots__ if not name.startswith("_") and (value := getattr(self, name))}
