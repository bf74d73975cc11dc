"""One posting to a webhook, with its retries: four attempts at most, on 5xx, 429 and network errors (contract).

After another 4xx there is none: the webhook will never take it. The waits are 1, 2 and 4 s, or as long as the
webhook asks for. Owns neither what is posted nor a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.http_connection import Headers, HttpConnection, Unreachable
from otel_agent_telemetry.delivery.http_target import bearer, retry_after_s
from otel_agent_telemetry.delivery.outcome import POSTING_WAITS_S, RetryLater, as_asked

_TIMEOUT_S: Final = 10.0


class Posted(NamedTuple):
    """How a posting went. `problem`: why it was not taken, "" where it was; `is_final`: trying again cannot help."""

    retries: int
    problem: str = ""
    is_final: bool = False


def webhook_connection(url: str, token: str | None, config: TelemetryConfig) -> HttpConnection:
    """Return a connection to a webhook. Connects with the first posting."""
    headers: Headers = {"Content-Type": "application/json", **bearer(token)}
    return HttpConnection(url, config, headers=headers, timeout_s=_TIMEOUT_S)


def post(
    connection: HttpConnection, body: bytes, *, sleep: Callable[[float], object], is_stopped: Callable[[], bool]
) -> Posted:
    """Post a body. Blocks for the attempts and, by `sleep`, between them; `is_stopped` ends the retries."""
    retries = 0
    outcome = _attempt(connection, body)
    while isinstance(outcome, RetryLater) and retries < len(POSTING_WAITS_S) and not is_stopped():
        sleep(as_asked(outcome, POSTING_WAITS_S[retries]))
        retries += 1
        outcome = _attempt(connection, body)
    if outcome is None:
        return Posted(retries)
    # Whoever posts decides whether a later try is worth it; after a refusal none is.
    return Posted(retries, outcome.reason, isinstance(outcome, _GivenUp))


class _GivenUp(NamedTuple):
    """The webhook will never take this."""

    reason: str


def _attempt(connection: HttpConnection, body: bytes) -> RetryLater | _GivenUp | None:
    """Post once; return None when it was taken, else whether trying again may help."""
    answer = connection.request("POST", body=body)
    if isinstance(answer, Unreachable):
        return RetryLater(answer.reason)
    if answer.status < 400:  # noqa: PLR2004 - a script host answers 302 when it has taken the row
        return None
    if answer.status == 429 or answer.status >= 500:  # noqa: PLR2004
        return RetryLater(f"answer {answer.status}", after_s=retry_after_s(answer.retry_after))
    return _GivenUp(f"answer {answer.status}")
