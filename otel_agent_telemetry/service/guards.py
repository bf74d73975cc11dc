"""What every request passes before an endpoint: access log, rate limit, bearer token, loopback host check.

The log is outermost, so that refused requests are logged. `Admission` has the order of the rest,
once for HTTP and gRPC. `/health` and `/version` need no token and are not limited: load
balancers and clients use them to find out whether the service is there.
"""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from otel_agent_telemetry.errors import StorageError
from otel_agent_telemetry.service.client_addresses import counted_client
from otel_agent_telemetry.service.responses import error_response, status_of
from otel_agent_telemetry.service.sessions import PAGE_SESSION, Sessions
from otel_agent_telemetry.service.tokens import READ, Token, Tokens, permission_for

_access = logging.getLogger("otel_agent_telemetry.service.access")

OPEN_PATHS: Final = frozenset({"/health", "/version"})
API_PREFIXES: Final = ("/api/", "/v1/", "/metrics", "/openapi.json")
"""What begins so is for programs; every other path is for browsers."""
SIGN_IN: Final = "/sign-in"
_STATIC: Final = "/static/"
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
            log_access(address_of(scope), scope["method"], scope["path"], status, duration_s)


def log_access(client: str, method: str, path: str, status: int | str, duration_s: float) -> None:
    """Log one request at level INFO. Client and path are escaped: they are untrusted and must not forge a line.

    `status`: of HTTP, or the name of a gRPC code. Never raises.
    """
    # Asked first: escaping costs more than a request that nobody logs should pay.
    if _access.isEnabledFor(logging.INFO):
        address = client if _ADDRESS.fullmatch(client) else ascii(client[:_MAX_LOGGED])
        _access.info("%s %s %s %s %.1f ms", address, method, ascii(path[:_MAX_LOGGED]), status, duration_s * 1000)


def route_of(scope: Scope) -> str:
    """Return the template of the matched route, else "unknown": a label must not be a path that a client invented."""
    route = scope.get("route")
    return str(getattr(route, "path", "unknown"))


def address_of(scope: Scope) -> str:
    """Return the address of the client, "unknown" when the server does not know it."""
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


def client_of(scope: Scope) -> str:
    """Return the client as limits count it."""
    return counted_client(address_of(scope))


class LoopbackHostCheck:
    """Refuses requests whose `Host` is not this machine; for a service on loopback without a token.

    A web page can point a DNS name of its own at 127.0.0.1 and read what the service returns
    (DNS rebinding); its requests carry that name in `Host`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or respond 421."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            is_local = is_loopback_name(Headers(scope=scope).get("host", ""))
        except ValueError:
            await error_response(scope, 400, "the Host header names no host")(scope, receive, send)
            return
        if is_local:
            await self._app(scope, receive, send)
            return
        detail = "this service is for this machine; TELEMETRY_API_AUTH_ENABLED or TELEMETRY_TRUSTED_PROXIES opens it"
        await error_response(scope, 421, detail)(scope, receive, send)


@lru_cache(maxsize=64)
def is_loopback_name(host: str) -> bool:
    """Return whether a `Host` header names this machine; true without one, which no browser sends.

    Raises ValueError for text that is no host, such as `[`.
    """
    # A Host header has no user part: `evil@localhost` as a whole is no name of this machine.
    name = (urlsplit(f"//{host}").hostname or "") if "@" not in host else host
    if name in ("", "localhost") or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def is_public(host: str) -> bool:
    """Return whether other machines may reach a service that binds this address.

    `host`: an address or a name as it is bound; empty is every address. A name that is none counts as public.
    """
    try:
        return not host or not is_loopback_name(f"[{host}]" if ":" in host else host)
    except ValueError:
        return True


class RequestRates:
    """Counts requests a minute for each client address, over HTTP and gRPC together. Safe under threads.

    The window slides over a minute: no burst of twice the number at the turn of a minute. The counts are of this
    process, and so of one worker.
    """

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


class Refusal(NamedTuple):
    """Why a request is not admitted: HTTP status, the `detail`, and headers of the response."""

    status: int
    detail: str
    headers: Mapping[str, str]


class Decision(NamedTuple):
    """Why a request is refused, None when it is not; headers for its response; the name of its token."""

    refusal: Refusal | None = None
    headers: Mapping[str, str] = {}
    token_name: str = ""


ADMITTED_AS: Final = "otel_agent_telemetry.token_name"
"""Key in the scope of an admitted request: the name of its token, "" without one."""


class Admission:
    """Decides whether a request is served, for HTTP and gRPC alike: first the rate, then the token, then what it may.

    In this order, so that guessing tokens is limited too; and before anything of a body is read.
    """

    def __init__(self, *, rates: RequestRates | None, tokens: Tokens | None) -> None:
        self.rates = rates
        self.tokens = tokens

    def check(
        self, client: str, authorization: Sequence[bytes], needed: str, *, signed_in: Token | None = None
    ) -> Decision:
        """Count a request; return whether it is refused. `signed_in`: the token of the browser's session.

        `client`: as `client_of` counts it. `authorization`: every value of that header. `needed`: a permission of
        `tokens`.
        """
        counted = self.check_rate(client)
        if counted.refusal is not None or self.tokens is None:
            return counted
        headers = counted.headers
        # The comparison takes the same time for each token (`tokens`), so an answer's delay tells nothing of one.
        token = signed_in or self.tokens.find(authorization)
        if token is None:
            return Decision(Refusal(401, "a bearer token is needed", {**headers, "WWW-Authenticate": "Bearer"}))
        if needed not in token.may:
            # 403 and not 401: another try with the same token would change nothing.
            return Decision(Refusal(403, f"this token may not {needed}", headers))
        return Decision(headers=headers, token_name=token.name)

    def check_rate(self, client: str) -> Decision:
        """Count a request whatever its token; return whether there were too many."""
        if self.rates is None:
            return Decision()
        decision, limit = self.rates.hit(client), self.rates.per_minute
        headers = {"X-RateLimit-Limit": str(limit), "X-RateLimit-Remaining": str(decision.remaining)}
        if not decision.wait_s:
            return Decision(headers=headers)
        detail = f"more than {limit} requests a minute from this address"
        return Decision(Refusal(429, detail, {**headers, "Retry-After": str(decision.wait_s)}))


Refused = Callable[[Scope, Refusal], Response | None]
"""Returns the response to a browser whose request is refused, such as a way to sign in; None for other clients."""


class AdmissionGuard:
    """Refuses HTTP requests that `Admission` does not let in, on every path but the open ones.

    A browser may read with the cookie of its session instead of a token. It is not enough to
    write through the API: a form of another site would send it too. The page's own forms are
    checked where they arrive (`page.forms`), so that their paths ask for `read` here.
    """

    def __init__(self, app: ASGIApp, *, admission: Admission, sessions: Sessions, refused: Refused) -> None:
        self._app = app
        self._admission = admission
        self._sessions = sessions
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or respond 401, 403 or 429."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or scope["path"].startswith(_STATIC):
            await self._app(scope, receive, send)
            return
        try:
            decision = await self._decide(scope)
        except StorageError as problem:  # the secret of the sessions cannot be read
            await error_response(scope, *status_of(problem))(scope, receive, send)
            return
        refusal, headers, scope[ADMITTED_AS] = decision
        if refusal is not None:
            response = self._refused(scope, refusal) or error_response(
                scope, refusal.status, refusal.detail, refusal.headers
            )
            await response(scope, receive, send)
            return
        # Headers of the rate go with every response, so that a client can slow down before it is refused.
        await self._app(scope, receive, _adding_headers(send, headers) if headers else send)

    async def _decide(self, scope: Scope) -> Decision:
        """Return the decision on a request; leave a valid session in its scope.

        Raises StorageError when the secret of the sessions cannot be read.
        """
        is_page = not scope["path"].startswith(API_PREFIXES)
        needed = READ if is_page else permission_for(scope["method"])
        authorization = _header(scope, b"authorization")
        found = None
        # A client that sends a token is no browser: its token alone counts.
        if not authorization and needed == READ:
            found = await self._sessions.find(b"; ".join(_header(scope, b"cookie")))
        if found is not None:
            scope[PAGE_SESSION] = found[1]
        client, signed_in = client_of(scope), found[0] if found else None
        if scope["path"] == SIGN_IN:  # open, but not for guessing
            return self._admission.check_rate(client)
        return self._admission.check(client, authorization, needed, signed_in=signed_in)


class RequestsAtOnce:
    """Bounds the requests of one client at the same time, where clients share the connections of a trusted proxy."""

    def __init__(self, app: ASGIApp, *, limit: int) -> None:
        self._app = app
        self._limit = limit
        self._serving: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or respond 503."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = client_of(scope)
        if self._serving[client] >= self._limit:
            refusal = error_response(scope, 503, "too many requests of this client at once", {"Retry-After": "1"})
            await refusal(scope, receive, send)
            return
        self._serving[client] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._serving[client] -= 1
            if not self._serving[client]:  # clients come and go: the table must not grow with them
                del self._serving[client]


def _adding_headers(send: Send, headers: Mapping[str, str]) -> Send:
    """Return a `send` that adds headers to the response."""
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *raw]
        await send(message)

    return send_with_headers


def _header(scope: Scope, wanted: bytes) -> list[bytes]:
    """Return every value of a header, whose name is in lower case; a client may send it more than once."""
    return [value for name, value in scope["headers"] if name == wanted]
