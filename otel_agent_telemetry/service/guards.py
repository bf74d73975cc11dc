"""What stands before every endpoint: the access log, the rate limit, the token. Plain ASGI.

Outermost is the log, so that what is refused is seen; then the rate limit, so that guessing
tokens is limited too; then the token. `/health` and `/version` need neither: they are how
balancers and clients find out whether to come at all.
"""

from __future__ import annotations

import hmac
import logging
import re
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from otel_agent_telemetry.service.problems import problem_answer

_access = logging.getLogger("otel_agent_telemetry.service.access")

OPEN_PATHS: Final = frozenset({"/health", "/version"})
_WIDTH: Final = 200
_ADDRESS: Final = re.compile(r"[0-9a-zA-Z.:%_-]{1,64}", re.ASCII)

Observer = Callable[[str, str, int, float], None]
"""Called with method, route, status and seconds of each request."""


class AccessLog:
    """One line a request: who, what, how it ended, how long. Neither query, headers nor body are in it."""

    def __init__(self, app: ASGIApp, *, observe: Observer) -> None:
        self._app = app
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve and log."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            took = time.perf_counter() - began
            self._observe(scope["method"], route_of(scope), status, took)
            log_access(client_of(scope), scope["method"], scope["path"], status, took)


def log_access(client: str, method: str, path: str, status: int | str, took_s: float) -> None:
    """The line of one request. Client and path are anybody's text, and nobody's way to forge a line."""
    if _access.isEnabledFor(logging.INFO):
        known = client if _ADDRESS.fullmatch(client) else ascii(client[:_WIDTH])
        _access.info("%s %s %s %s %.1f ms", known, method, ascii(path[:_WIDTH]), status, took_s * 1000)


def route_of(scope: Scope) -> str:
    """The route's template, "unknown" when none took the request: never a path that anybody made up."""
    route = scope.get("route")
    return str(getattr(route, "path", "unknown"))


def client_of(scope: Scope) -> str:
    """The client's address."""
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


class LocalNames:
    """For a service on loopback that asks for no token: only who names a local host means it.

    A page from anywhere can point a name of its own at loopback and then read what answers
    there (DNS rebinding); its requests carry that name in `Host`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or answer 421."""
        if scope["type"] != "http" or is_local_name(Headers(scope=scope).get("host", "")):
            await self._app(scope, receive, send)
            return
        detail = "this service is for this machine; TELEMETRY_API_AUTH_ENABLED or TELEMETRY_TRUSTED_PROXIES opens it"
        await problem_answer(scope, 421, detail)(scope, receive, send)


@lru_cache(maxsize=64)
def is_local_name(host: str) -> bool:
    """Whether a `Host` header names this machine; without one nobody was named."""
    name = (urlsplit(f"//{host}").hostname or "") if "@" not in host else host
    if name in ("", "localhost") or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


class RequestRates:
    """So many requests a minute from each address. One for all the ways in; safe under threads."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._limit = RateLimitItemPerMinute(per_minute)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def take(self, client: str) -> Taken:
        """Count one request of a client."""
        allowed = self._limiter.hit(self._limit, client)
        window = self._limiter.get_window_stats(self._limit, client)
        wait_s = 0 if allowed else max(int(window.reset_time - time.time()) + 1, 1)
        return Taken(max(window.remaining, 0), wait_s)


class Taken(NamedTuple):
    """What a request left of its client's minute; `wait_s` seconds until the next one, 0 when it was allowed."""

    remaining: int
    wait_s: int


class RateLimit:
    """Before the endpoints: what is over the rate is told when to come again."""

    def __init__(self, app: ASGIApp, *, rates: RequestRates) -> None:
        self._app = app
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or answer 429."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        taken, limit = self._rates.take(client_of(scope)), self._rates.per_minute
        told = {"X-RateLimit-Limit": str(limit), "X-RateLimit-Remaining": str(taken.remaining)}
        if taken.wait_s:
            detail = f"more than {limit} requests a minute from this address"
            await problem_answer(scope, 429, detail, {**told, "Retry-After": str(taken.wait_s)})(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    *((name.lower().encode(), value.encode()) for name, value in told.items()),
                ]
            await send(message)

        await self._app(scope, receive, sending)


class TokenCheck:
    """Knows the token by its `Authorization` header. Compares in constant time."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def knows(self, given: Sequence[bytes]) -> bool:
        """Whether these values of the header, of which there must be one, hold the token."""
        scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self._token)


class BearerToken:
    """Before the endpoints: asks for the token at everything but the open paths, reads included."""

    def __init__(self, app: ASGIApp, *, token: TokenCheck) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or answer 401."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or self._token.knows(_authorization(scope)):
            await self._app(scope, receive, send)
            return
        refusal = problem_answer(scope, 401, "a bearer token is needed", {"WWW-Authenticate": "Bearer"})
        await refusal(scope, receive, send)


def _authorization(scope: Scope) -> list[bytes]:
    return [value for name, value in scope["headers"] if name == b"authorization"]
