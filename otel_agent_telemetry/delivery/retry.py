"""When to try again: pure policies. Whoever retries does the waiting.

Delivery is tried for ever, up to 0.5 s, 1 s, 2 s … 60 s apart with full jitter. A webhook is
tried four times, after 1, 2 and 4 s (contract, "External posting"). A target that names a time
itself (Retry-After) is never asked before it, up to five minutes.

Written here because a recording process imports nothing third-party on its background thread.
"""

from __future__ import annotations

import random
from typing import Final

from otel_agent_telemetry.delivery.outcome import RetryLater

MAX_RETRY_AFTER_S: Final = 300.0
POSTING_WAITS_S: Final = (1.0, 2.0, 4.0)
_FIRST_S: Final = 0.5
_LONGEST_S: Final = 60.0
_DOUBLINGS: Final = 7
_random: Final = random.SystemRandom()  # the application's own sequence of numbers stays as it is


class Backoff:
    """How long to wait after each of several failures in a row."""

    def __init__(self) -> None:
        self._failures = 0

    def after(self, outcome: RetryLater) -> float:
        """Return the seconds from this failure to the next attempt."""
        most = min(_FIRST_S * 2**self._failures, _LONGEST_S)
        self._failures = min(self._failures + 1, _DOUBLINGS)
        return as_asked(outcome, _random.uniform(0, most))

    def reset(self) -> None:
        """Begin anew: an attempt has worked."""
        self._failures = 0


def as_asked(outcome: RetryLater, usual_s: float) -> float:
    """Return the usual wait, or what the target asked for where that is longer, up to five minutes."""
    return usual_s if outcome.after_s is None else max(usual_s, min(outcome.after_s, MAX_RETRY_AFTER_S))
