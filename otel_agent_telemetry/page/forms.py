"""Forms of the page, accepted only from the page itself.

Two proofs are asked for, and both must hold: the browser's own word on where the form was sent from
(`Sec-Fetch-Site`, else `Origin`), and a hidden field that was signed for the reader's session.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request

from otel_agent_telemetry.service.guards import client_of
from otel_agent_telemetry.service.request_body import media_type_of, read_body
from otel_agent_telemetry.service.requests import backend_of
from otel_agent_telemetry.service.responses import RequestError
from otel_agent_telemetry.service.sessions import PAGE_SESSION, PageSession

FORM_TOKEN: Final = "form_token"  # noqa: S105 - the name of a field
_MAX_FORM: Final = 64 << 10
_MAX_FIELDS: Final = 50
_OWN_SITE: Final = frozenset({"same-origin", "none"})


def session_of(request: Request) -> PageSession:
    """Return the session of the reader; every endpoint of the page has one."""
    session: PageSession = request.scope[PAGE_SESSION]
    return session


async def checked_form(request: Request, *, needed: str | None = None) -> dict[str, str]:
    """Return the fields of a form that the page itself sent; of a repeated name the last value.

    `needed`: the permission that the action asks for, `write` or `admin`. Raises RequestError: 403
    for a form of another site or a session that may not, 413 and 415 for a body that is no form.
    """
    if not _is_own_origin(request):
        raise RequestError(403, "this form was not sent by a page of this service")
    fields = await _fields_of(request)
    session = session_of(request)
    if not session.is_own_form(fields.pop(FORM_TOKEN, "")):
        raise RequestError(403, "this form is too old, or not of this session; go back, reload the page and try again")
    if needed is not None and not session.may(needed):
        raise RequestError(403, f"this session may not {needed}; sign in with a token that may")
    return fields


def _is_own_origin(request: Request) -> bool:
    """Return whether the browser says that a page of this host sent the request, or says nothing (no browser)."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        return site in _OWN_SITE
    # Browsers send no Sec-Fetch-Site over plain HTTP to other hosts. The name alone is compared: a proxy in front
    # may drop the port, and pages of another port of this host cannot make the form's token.
    if origin is not None:
        return urlsplit(origin).hostname == urlsplit(f"//{request.headers.get('host', '')}").hostname
    return True


async def _fields_of(request: Request) -> dict[str, str]:
    """Return the fields of a form's body."""
    if media_type_of(request) != "application/x-www-form-urlencoded":
        raise RequestError(415, "the body of a form is application/x-www-form-urlencoded")
    with backend_of(request).body_budget.reserve(client_of(request.scope)) as reservation:
        body = await read_body(request, reservation, max_bytes=_MAX_FORM)
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise RequestError(400, f"the body is no form of at most {_MAX_FIELDS} fields in UTF-8") from None
    return dict(pairs)
