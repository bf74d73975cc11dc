"""Script and style of the pages, served from memory.

An address holds the first digits of the file's digest, `/static/page.css?v=0f3a…`, so that a browser may keep the
file for a year and still never mixes two versions. Names are looked up in a table of what the package has: no path
of a request ever reaches the file system.
"""

from __future__ import annotations

import gzip
from functools import cache
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from otel_agent_telemetry.service.responses import error_response

_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}
_DIGITS: Final = 12
_YEAR: Final = "public, max-age=31536000, immutable"
_HOUR: Final = "public, max-age=3600"


class StaticFile(NamedTuple):
    """A file as it is sent: its bytes, the same compressed, its media type, and the start of its digest."""

    content: bytes
    compressed: bytes
    media_type: str
    version: str


@cache
def static_files() -> dict[str, StaticFile]:
    """Return the files of the package by their name below `/static/`, such as `vendor/htmx.min.js`."""
    found: dict[str, StaticFile] = {}
    waiting: list[tuple[str, Traversable]] = [("", files("otel_agent_telemetry.page") / "static")]
    while waiting:
        prefix, folder = waiting.pop()
        for entry in folder.iterdir():
            suffix = entry.name[entry.name.rfind(".") :]
            if entry.is_dir():
                waiting.append((f"{prefix}{entry.name}/", entry))
            # What has no known type is not served: an editor's leftover must not become an address.
            elif suffix in _TYPES:
                content = entry.read_bytes()
                # A fixed time in the gzip head: two services send the same bytes.
                compressed = gzip.compress(content, mtime=0)
                version = sha256(content).hexdigest()[:_DIGITS]
                found[prefix + entry.name] = StaticFile(content, compressed, _TYPES[suffix], version)
    return found


def static_address(name: str) -> str:
    """Return the address of a file, with its version. Raises KeyError for a file that the package lacks."""
    return f"/static/{name}?v={static_files()[name].version}"


async def read_static(request: Request) -> Response:
    """Return a file of the page; a browser keeps one that is asked for with its version."""
    found = static_files().get(request.path_params["name"])
    if found is None:
        return error_response(request.scope, 404, "not found: the page has no such file")
    is_current = request.query_params.get("v") == found.version
    headers = {
        "Cache-Control": _YEAR if is_current else _HOUR,
        "ETag": f'"{found.version}"',
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
    }
    if f'"{found.version}"' in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(found.compressed, media_type=found.media_type, headers=headers)
    return Response(found.content, media_type=found.media_type, headers=headers)
