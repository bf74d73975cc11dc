"""Whether telemetry that an agent sends would arrive: one empty request over OTLP for each signal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.http_connection import Answer, HttpConnection, Unreachable

SIGNALS: Final = {"logs": "resourceLogs", "traces": "resourceSpans", "metrics": "resourceMetrics"}
_TIMEOUT_S: Final = 5.0
_OK: Final = 200
_WHAT_TO_DO: Final = {
    401: "it asks for a token: set TELEMETRY_API_AUTH_TOKEN here and for the agent",
    403: "the token may not write: give it `write` in the service's file of tokens",
    404: "another program, or an older version of the service, listens there",
    405: "another program listens there",
    429: "it has had too many requests: try again later, or raise TELEMETRY_RATE_LIMIT_RPM",
    503: "it cannot store anything now: see `agent-telemetry doctor` on its host",
}


class Finding(NamedTuple):
    """What came of one signal: whether it would arrive, and else what to do."""

    signal: str
    arrives: bool
    text: str


def probe(url: str, config: TelemetryConfig) -> Iterator[Finding]:
    """Yield for each signal whether the service at an address takes it.

    The token of TELEMETRY_API_AUTH_TOKEN goes with it, as the agent would send it. Blocks for five seconds at most
    for each signal; stops at the first that gets no answer. An empty request stores nothing.
    """
    token = config.api_auth_token
    headers: dict[str, str | bytes] = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = b"Bearer " + token.encode(errors="replace")
    connection = HttpConnection(url, config, headers=headers, timeout_s=_TIMEOUT_S)
    try:
        for signal, member in SIGNALS.items():
            answer = connection.request("POST", f"/v1/{signal}", body=f'{{"{member}":[]}}'.encode())
            yield Finding(signal, *_judged(answer))
            if isinstance(answer, Unreachable):  # the others would wait for the same
                return
    finally:
        connection.close()


def _judged(answer: Answer | Unreachable) -> tuple[bool, str]:
    """Return whether an answer says that telemetry arrives, and else what to do."""
    if isinstance(answer, Unreachable):
        return False, f"no answer ({answer.reason}): start the service with `agent-telemetry serve`"
    if answer.status == _OK:
        return True, "arrives"
    return False, f"status {answer.status}: {_WHAT_TO_DO.get(answer.status, 'see the log of the service')}"
