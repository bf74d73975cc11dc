"""Signing in: a reader gives a token once, and the browser keeps a cookie for 12 hours.

The token is in the body of one POST, never in an address, a page or a log.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, urlencode

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Scope

from otel_agent_telemetry.page.forms import checked_form, session_of
from otel_agent_telemetry.page.rendering import HEADERS, render
from otel_agent_telemetry.service.guards import API_PREFIXES, SIGN_IN, Refusal
from otel_agent_telemetry.service.sessions import SESSION_S, Sessions
from otel_agent_telemetry.service.tokens import READ

_SEE_OTHER: Final = 303
_UNAUTHORIZED: Final = 401
_MAX_NEXT: Final = 2_000


def sessions_of(request: Request) -> Sessions:
    """Return the sessions of the service that received the request."""
    sessions: Sessions = request.app.state.sessions
    return sessions


async def show_sign_in(request: Request) -> Response:
    """Return the form; where no token is needed, or the reader has signed in, lead on to the page."""
    address = _own_address(request.query_params.get("next", "/"))
    if session_of(request).may(READ):
        return RedirectResponse(address, _SEE_OTHER, HEADERS)
    return await render(request, "sign_in.html", {"next": address, "problem": ""})


async def sign_in(request: Request) -> Response:
    """Take a token; set the session's cookie and lead on to the page, or show the form with what was wrong."""
    fields = await checked_form(request)
    address, sessions = _own_address(fields.get("next", "/")), sessions_of(request)
    if sessions.tokens is None:
        return RedirectResponse(address, _SEE_OTHER, HEADERS)
    token = sessions.tokens.find_text(fields.get("token", "").encode("utf-8", "surrogateescape"))
    if token is None or READ not in token.may:
        problem = "The service knows no such token." if token is None else "This token may not read."
        return await render(request, "sign_in.html", {"next": address, "problem": problem}, status=_UNAUTHORIZED)
    signer = await sessions.signer()
    response = RedirectResponse(address, _SEE_OTHER, HEADERS)
    # Lax, so that a link that a colleague sends opens; forms have proofs of their own.
    response.set_cookie(
        signer.cookie_name,
        signer.cookie_of(token),
        max_age=SESSION_S,
        httponly=True,
        samesite="lax",
        # Not always: over plain HTTP on loopback the browser would not send the cookie back.
        secure=request.url.scheme == "https",
    )
    return response


async def sign_out(request: Request) -> Response:
    """Remove the cookie and lead to the form."""
    await checked_form(request)
    response = RedirectResponse(SIGN_IN, _SEE_OTHER, HEADERS)
    response.delete_cookie((await sessions_of(request).signer()).cookie_name, httponly=True, samesite="lax")
    return response


def lead_to_sign_in(scope: Scope, refusal: Refusal) -> Response | None:
    """Return the way to the form for a browser that has no session; None for other clients and refusals."""
    headers = Headers(scope=scope)
    if refusal.status != _UNAUTHORIZED or scope["path"].startswith(API_PREFIXES):
        return None
    query = scope["query_string"].decode("latin-1")
    address = quote(scope["path"], safe="/:@!$&'()*+,;=~-._") + (f"?{query}" if query else "")
    target = f"{SIGN_IN}?{urlencode({'next': address[:_MAX_NEXT]})}"
    if headers.get("hx-request") == "true":  # a part of a page: the whole page goes to the form
        return Response(status_code=_UNAUTHORIZED, headers={**HEADERS, "HX-Redirect": target})
    if scope["method"] not in ("GET", "HEAD") or "text/html" not in headers.get("accept", ""):
        return None
    return RedirectResponse(target, _SEE_OTHER, HEADERS)


def _own_address(text: str) -> str:
    r"""Return an address of this service, `/` for any other: `//host` and `/\host` are other hosts to a browser."""
    is_own = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable()
    return text if is_own and len(text) <= _MAX_NEXT else "/"
