"""ASGI middlewares before every endpoint: access log, rate limit, bearer token, loopback host check.

The log is outermost, so that refused requests are logged; then the rate limit, so that
guessing tokens is limited too; then the token. `/health` and `/version` need neither: load
balancers and clients use them to find out whether the service is there.
"""

from __future__ import annotations

import hmac
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from otel_agent_telemetry.service.responses import error_response

_access = logging.getLogger("otel_agent_telemetry.service.access")

OPEN_PATHS: Final = frozenset({"/health", "/version"})
_MAX_LOGGED: Final = 200
_ADDRESS: Final = re.compile(r"[0-9a-zA-Z.:%_-]{1,64}", re.ASCII)

Observer = Callable[[str, str, int, float], None]
"""Called after each request with its method, route template, status and duration in seconds."""


class AccessLog:
    """Logs one line a request: client, method, path, status, duration. Query, headers and body are not logged."""

    def __init__(self, app: ASGIApp, *, observe: Observer) -> None:
        self._app = app
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, then log it and report it to the observer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_at, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        # An app that raises has sent no status; the server then responds 500.
        try:
            await self._app(scope, receive, sending)
        finally:
            duration_s = time.perf_counter() - started_at
            self._observe(scope["method"], route_of(scope), status, duration_s)
            log_access(client_of(scope), scope["method"], scope["path"], status, duration_s)


def log_access(client: str, method: str, path: str, status: int | str, duration_s: float) -> None:
    """Log one request at level INFO. Client and path are escaped: they are untrusted and must not forge a line."""
    # Asked first: escaping costs more than a request that nobody logs should pay.
    if _access.isEnabledFor(logging.INFO):
        address = client if _ADDRESS.fullmatch(client) else ascii(client[:_MAX_LOGGED])
        _access.info("%s %s %s %s %.1f ms", address, method, ascii(path[:_MAX_LOGGED]), status, duration_s * 1000)


def route_of(scope: Scope) -> str:
    """Return the template of the matched route, else "unknown": a label must not be a path that a client invented."""
    route = scope.get("route")
    return str(getattr(route, "path", "unknown"))


def client_of(scope: Scope) -> str:
    """Return the address of the client, "unknown" when the server does not know it."""
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


class LoopbackHostCheck:
    """Refuses requests whose `Host` is not this machine; for a service on loopback without a token.

    A web page can point a DNS name of its own at 127.0.0.1 and read what the service returns
    (DNS rebinding); its requests carry that name in `Host`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or respond 421."""
        if scope["type"] != "http" or is_loopback_name(Headers(scope=scope).get("host", "")):
            await self._app(scope, receive, send)
            return
        detail = "this service is for this machine; TELEMETRY_API_AUTH_ENABLED or TELEMETRY_TRUSTED_PROXIES opens it"
        await error_response(scope, 421, detail)(scope, receive, send)


@lru_cache(maxsize=64)
def is_loopback_name(host: str) -> bool:
    """Return whether a `Host` header names this machine; true without one, which no browser sends."""
    # A Host header has no user part: `evil@localhost` as a whole is no name of this machine.
    name = (urlsplit(f"//{host}").hostname or "") if "@" not in host else host
    if name in ("", "localhost") or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


class RequestRates:
    """Counts requests a minute for each client address, over HTTP and gRPC together. Safe under threads."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._limit = RateLimitItemPerMinute(per_minute)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def hit(self, client: str) -> RateDecision:
        """Count one request of a client, and return whether it is allowed."""
        allowed = self._limiter.hit(self._limit, client)
        # Read after the hit, so that `remaining` counts this request too.
        window = self._limiter.get_window_stats(self._limit, client)
        # At least 1 s: a client that is sent `Retry-After: 0` retries at once, and is refused again.
        wait_s = 0 if allowed else max(int(window.reset_time - time.time()) + 1, 1)
        return RateDecision(max(window.remaining, 0), wait_s)


class RateDecision(NamedTuple):
    """Requests left in the client's minute, and seconds until the next one is allowed; 0 when this one is."""

    remaining: int
    wait_s: int


class RateLimit:
    """Responds 429 with `Retry-After` to clients over the rate; adds the `X-RateLimit-*` headers to the others."""

    def __init__(self, app: ASGIApp, *, rates: RequestRates) -> None:
        self._app = app
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or respond 429."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        decision, limit = self._rates.hit(client_of(scope)), self._rates.per_minute
        headers = {"X-RateLimit-Limit": str(limit), "X-RateLimit-Remaining": str(decision.remaining)}
        if decision.wait_s:
            headers["Retry-After"] = str(decision.wait_s)
            refusal = error_response(scope, 429, f"more than {limit} requests a minute from this address", headers)
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, _adding_headers(send, headers))


def _adding_headers(send: Send, headers: Mapping[str, str]) -> Send:
    """Return a `send` that adds headers to the response."""
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *raw]
        await send(message)

    return send_with_headers


class TokenCheck:
    """Compares `Authorization` headers with the configured token, in constant time."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def matches(self, headers: Sequence[bytes]) -> bool:
        """Return whether the values of the header are exactly one, `Bearer` with the token."""
        scheme, _, token = headers[0].partition(b" ") if len(headers) == 1 else (b"", b"", b"")
        # Two headers are refused: a proxy in front may have checked the one that is not read here.
        return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self._token)


class BearerAuth:
    """Requires the bearer token on every path but the open ones, for reads as well as writes."""

    def __init__(self, app: ASGIApp, *, token: TokenCheck) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or respond 401."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or self._token.matches(_authorization(scope)):
            await self._app(scope, receive, send)
            return
        refusal = error_response(scope, 401, "a bearer token is needed", {"WWW-Authenticate": "Bearer"})
        await refusal(scope, receive, send)


def _authorization(scope: Scope) -> list[bytes]:
    """Return every value of the `Authorization` header; a client may send it more than once."""
    return [value for name, value in scope["headers"] if name == b"authorization"]
