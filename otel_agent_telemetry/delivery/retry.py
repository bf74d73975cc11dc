"""When to try again: pure policies over tenacity, with a wait that can be cut short.

Delivery tries for ever, 0.5 s to 60 s apart with jitter, later when the target says so
(Retry-After). A webhook is tried four times, after 1, 2 and 4 s (contract, "External
posting"). Waiting is on an event, so stopping and flushing never wait for a wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_result,
    stop_after_attempt,
    stop_when_event_set,
    wait_chain,
    wait_fixed,
    wait_random_exponential,
)
from tenacity import sleep_using_event as sleep_on
from tenacity.wait import wait_base

from otel_agent_telemetry.delivery.outcome import RetryLater

T = TypeVar("T")
MAX_RETRY_AFTER_S = 300.0


class WaitAsRequested(wait_base):
    """What the target asked for, up to five minutes, and never less than the usual wait."""

    def __init__(self, otherwise: wait_base) -> None:
        self._otherwise = otherwise

    def __call__(self, retry_state: RetryCallState) -> float:
        """Seconds until the next attempt."""
        usual = float(self._otherwise(retry_state))
        outcome = retry_state.outcome.result() if retry_state.outcome is not None else None
        told = outcome.after_s if isinstance(outcome, RetryLater) else None
        return usual if told is None else max(usual, min(told, MAX_RETRY_AFTER_S))


def must_wait(result: object) -> bool:
    """Whether a result asks for another attempt."""
    return isinstance(result, RetryLater)


def until_delivered(stop: threading.Event, sleep: Callable[[float], None]) -> Retrying:
    """Retry for ever while the result is RetryLater; ends with that result when `stop` is set."""
    return Retrying(
        retry=retry_if_result(must_wait),
        wait=WaitAsRequested(wait_random_exponential(multiplier=0.5, max=60)),
        stop=stop_when_event_set(stop),
        sleep=sleep,
        retry_error_callback=_last_result,
    )


def posting(stop: threading.Event, sleep: Callable[[float], None] | None = None) -> Retrying:
    """Four attempts, 1, 2 and 4 s apart, while the result is RetryLater; `sleep` waits (default: on `stop`)."""
    return Retrying(
        retry=retry_if_result(must_wait),
        wait=WaitAsRequested(wait_chain(wait_fixed(1), wait_fixed(2), wait_fixed(4))),
        stop=stop_after_attempt(4) | stop_when_event_set(stop),
        sleep=sleep or sleep_on(stop),
        retry_error_callback=_last_result,
    )


def _last_result(state: RetryCallState) -> object:
    return state.outcome.result() if state.outcome is not None else None
