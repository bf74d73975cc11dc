"""What all our HTTP requests have in common: the token's header, and a failure told without it."""

from __future__ import annotations

from typing import Final

import httpx

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.errors import ConfigurationError
from otel_agent_telemetry.urls import without_credentials

FAILURES: Final = (httpx.HTTPError, httpx.InvalidURL, UnicodeError)
"""What a request raises that gets no answer; the last two for an address that cannot be one."""
_TOLD_BY_TYPE: Final = (httpx.LocalProtocolError, UnicodeError)


def service_client(url: str, config: TelemetryConfig, headers: dict[bytes, bytes]) -> httpx.Client:
    """A client of one service, with its token, which goes to that URL only: redirects are not followed.

    Connects to nothing yet. Raises ConfigurationError for a URL that cannot be asked.
    """
    headers = {**headers, b"User-Agent": b"otel-agent-telemetry", **bearer(config.api_auth_token)}
    try:
        return httpx.Client(base_url=url, headers=headers, timeout=config.api_timeout_s, follow_redirects=False)
    except FAILURES as problem:
        raise ConfigurationError(
            f"the service's URL {without_credentials(url)} cannot be asked: {type(problem).__name__}",
            hint="Check TELEMETRY_API_URL.",
        ) from None


def bearer(token: str | None) -> dict[bytes, bytes]:
    """The `Authorization` header of a token; none without one. Bytes, since httpx takes no text beyond ASCII."""
    return {b"Authorization": b"Bearer " + token.encode(errors="replace")} if token else {}


def told(problem: Exception) -> str:
    """One of FAILURES in words: the type alone where the text may quote a header, and so the token."""
    name = type(problem).__name__
    return name if isinstance(problem, _TOLD_BY_TYPE) else f"{name}: {problem}"
