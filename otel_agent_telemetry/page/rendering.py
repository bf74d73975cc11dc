"""Templates made into responses, with the headers that every page has.

Templates escape every value (Jinja2's autoescape), and a name that they use without being given it is an error.
The policy of the headers allows nothing but files of this service: no inline script or style, no foreign address,
no frame. So a text of a run that reached a page as markup could still run nothing.
"""

from __future__ import annotations

import functools
import gzip
import logging
import zlib
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from itertools import chain
from typing import Any, Final

import anyio
import anyio.from_thread
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import escape
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from otel_agent_telemetry.errors import AgentTelemetryError
from otel_agent_telemetry.page import formats
from otel_agent_telemetry.page.alert_banner import banner_for
from otel_agent_telemetry.page.static_files import static_address
from otel_agent_telemetry.service.guards import API_PREFIXES, client_of
from otel_agent_telemetry.service.responses import RequestError, status_of
from otel_agent_telemetry.service.sessions import PAGE_SESSION

_log = logging.getLogger(__name__)

HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Vary": "Cookie, HX-Request, Accept-Encoding",
}
"""Headers of every page and part of a page."""
_COMPRESS_FROM: Final = 1_500
_GZIP_LEVEL: Final = 5
_GZIP_FORMAT: Final = 31
"""Of zlib's window sizes the one that means a gzip stream of the largest window."""
FLUSH: Final = "<!-- the rest follows -->"
"""A mark in a template, up to which a page is sent before the rest of it is read, see `render_in_two`. No text of a run
can hold it, because those are escaped."""
_THREAD_FROM: Final = 200_000
"""Characters of a page from which compressing it would hold up other requests, so another thread does."""
_FILTERS: Final = (
    formats.duration,
    formats.number,
    formats.short_number,
    formats.cost,
    formats.percent,
    formats.bytes_size,
    formats.cut,
    formats.relative_time,
    formats.exact_time,
    formats.web_link,
    formats.path_part,
)

_NOT_FOUND: Final = 404

Endpoint = Callable[[Request], Awaitable[Response]]
Handler = Callable[[Request, Exception], Awaitable[Response]]
ReadRest = Callable[[], Coroutine[Any, Any, Mapping[str, Any]]]


@cache
def templates() -> Environment:
    """Return the templates of the package. Each is compiled when it is first used, see `compile_templates`."""
    environment = Environment(
        loader=PackageLoader("otel_agent_telemetry.page"),
        autoescape=True,
        # A misspelt name in a template is an error in a test, and not a blank on the page.
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update({function.__name__: function for function in _FILTERS})
    environment.globals.update(static=static_address, NOTHING=formats.NOTHING)
    return environment


def compile_templates() -> None:
    """Compile all templates, so that no request waits for it. Blocks for some tenths of a second; once a process."""
    environment = templates()
    for name in environment.list_templates(extensions=["html"]):
        environment.get_template(name)


def wants_part(request: Request) -> bool:
    """Return whether htmx asks for a part of the page that it shows already; going back asks for a whole page."""
    return request.headers.get("hx-request") == "true" and "hx-history-restore-request" not in request.headers


async def render(request: Request, template: str, values: Mapping[str, Any], *, status: int = 200) -> Response:
    """Return a template as the response. `values` are its names, beside `request`, `now` and the session's."""
    text = templates().get_template(template).render(_names(request, values))
    if len(text) < _THREAD_FROM:
        return html_response(request, text, status)
    return await anyio.to_thread.run_sync(html_response, request, text, status)


def _names(request: Request, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the names of a template: `values`, and what every page may show."""
    session = request.scope[PAGE_SESSION]
    banner = banner_for(request, session)
    return {"request": request, "now": datetime.now(UTC), "session": session, "banner": banner, **values}


def html_response(request: Request, text: str, status: int = 200) -> Response:
    """Return HTML with the headers of a page, compressed where the browser takes that."""
    # A run may hold a lone surrogate, which no encoding of a response can.
    body, headers = text.encode("utf-8", "replace"), dict(HEADERS)
    if len(body) >= _COMPRESS_FROM and "gzip" in request.headers.get("accept-encoding", ""):
        body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Response(body, status, media_type="text/html", headers=headers)


async def render_in_two(request: Request, template: str, values: Mapping[str, Any], read_rest: ReadRest) -> Response:
    """Return a template as a response that begins before all of it is read.

    What stands before FLUSH in the template is sent as soon as it is made; what follows asks `rest()` for the
    names that `read_rest` returns. Rendered in another thread, so a large page holds up no other request.
    """
    # Read on the event loop, where reading has its bounds.
    names = _names(request, {**values, "rest": lambda: anyio.from_thread.run(read_rest)})
    pieces = _flushed(templates().get_template(template).generate(names))
    headers = dict(HEADERS)
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        pieces = _compressed(pieces)
    # What fails before the first piece has a status of its own; later it is too late for one.
    first = await anyio.to_thread.run_sync(next, pieces)
    return StreamingResponse(chain((first,), pieces), media_type="text/html", headers=headers)


def _flushed(texts: Iterator[str]) -> Iterator[bytes]:
    """Yield what a template makes in two pieces: up to FLUSH, and from there on; then the reason why that failed."""
    made: list[str] = []
    try:
        for text in texts:
            before, flush, after = text.partition(FLUSH)
            made.append(before)
            if flush:
                yield "".join(made).encode("utf-8", "replace")
                made = [after]
    except AgentTelemetryError as problem:  # the status has been sent; the browser closes what is open
        _log.warning("a page ends early: %s", problem)
        made = [f'<p class="notice" role="alert">The rest of this page cannot be read now: {escape(str(problem))}</p>']
    yield "".join(made).encode("utf-8", "replace")


def _compressed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield pieces as one gzip stream, each so that it can be read before the next has come."""
    stream = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_FORMAT)
    for piece in pieces:
        yield stream.compress(piece) + stream.flush(zlib.Z_SYNC_FLUSH)
    yield stream.flush()


def page(endpoint: Endpoint) -> Endpoint:
    """Return the endpoint with its errors shown as a page: the status of the API's, its detail as text."""

    @functools.wraps(endpoint)
    async def shown(request: Request) -> Response:
        try:
            # The guard has left the session of a cookie; without one the reader has what everybody has.
            if PAGE_SESSION not in request.scope:
                request.scope[PAGE_SESSION] = await request.app.state.sessions.open_session()
            return await endpoint(request)
        except AgentTelemetryError as problem:
            if PAGE_SESSION not in request.scope:  # the database is away: not even a page of ours can be made
                raise
            status, detail, headers = status_of(problem)
            _log.debug("page %s for %s: %s", status, client_of(request.scope), detail)
            response = await render(request, "error.html", {"status": status, "detail": detail}, status=status)
            response.headers.update(headers or {})
            return response

    return shown


def not_found_page(handler: Handler) -> Handler:
    """Return the exception handler with a page for browsers where no address is; programs get what `handler` makes."""

    async def handle(request: Request, problem: Exception) -> Response:
        response = await handler(request, problem)
        is_browser = "text/html" in request.headers.get("accept", "") and not request.url.path.startswith(API_PREFIXES)
        if response.status_code != _NOT_FOUND or not is_browser:
            return response
        return await page(_show_not_found)(request)

    return handle


async def _show_not_found(_request: Request) -> Response:
    """Raise the error of an address that the page does not have."""
    raise RequestError(_NOT_FOUND, "this service has no page at this address")
