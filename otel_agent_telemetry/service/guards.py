"""What stands before every endpoint: the access log, the rate limit, the token. Plain ASGI.

Outermost is the log, so that what is refused is seen; then the rate limit, so that guessing
tokens is limited too; then the token. `/health` and `/version` need neither: they are how
balancers and clients find out whether to come at all.
"""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Callable
from typing import Final

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from otel_agent_telemetry.service.problems import problem_answer

_access = logging.getLogger("otel_agent_telemetry.service.access")

OPEN_PATHS: Final = frozenset({"/health", "/version"})
_WIDTH: Final = 200

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
            if _access.isEnabledFor(logging.INFO):
                path = ascii(scope["path"][:_WIDTH])  # anybody's text, and nobody's way to forge a line
                _access.info("%s %s %s %d %.1f ms", client_of(scope), scope["method"], path, status, took * 1000)


def route_of(scope: Scope) -> str:
    """The route's template, "unknown" when none took the request: never a path that anybody made up."""
    route = scope.get("route")
    return str(getattr(route, "path", "unknown"))


def client_of(scope: Scope) -> str:
    """The client's address."""
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


class RateLimit:
    """So many requests a minute from each address; what is over is told when to come again."""

    def __init__(self, app: ASGIApp, *, per_minute: int) -> None:
        self._app = app
        self._limit = RateLimitItemPerMinute(per_minute)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or answer 429."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        client = client_of(scope)
        taken = self._limiter.hit(self._limit, client)
        window = self._limiter.get_window_stats(self._limit, client)
        told = {"X-RateLimit-Limit": str(self._limit.amount), "X-RateLimit-Remaining": str(max(window.remaining, 0))}
        if not taken:
            after = max(int(window.reset_time - time.time()) + 1, 1)
            detail = f"more than {self._limit.amount} requests a minute from this address"
            await problem_answer(429, detail, {**told, "Retry-After": str(after)})(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    *((name.lower().encode(), value.encode()) for name, value in told.items()),
                ]
            await send(message)

        await self._app(scope, receive, sending)


class BearerToken:
    """Asks for the token at everything but the open paths, reads included. Compares in constant time."""

    def __init__(self, app: ASGIApp, *, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or answer 401."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or self._is_known(scope):
            await self._app(scope, receive, send)
            return
        refusal = problem_answer(401, "a bearer token is needed", {"WWW-Authenticate": "Bearer"})
        await refusal(scope, receive, send)

    def _is_known(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self._token)
