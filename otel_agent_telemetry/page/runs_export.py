"""The filtered list as a file: `/export.csv` and `/export.jsonl`, with the filters of the list in the address.

The file holds every run that matches, newest first, with every column, in the formats of `agent-telemetry export`.
It is read and sent some runs at a time, so that neither a million runs nor runs of a megabyte come into memory. An
error on the way ends the connection, which browsers show as a download that failed.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from otel_agent_telemetry.operations.export_formats import CsvFormat, ExportFormat, JsonLinesFormat
from otel_agent_telemetry.page.rendering import HEADERS
from otel_agent_telemetry.page.runs_view import asked_list
from otel_agent_telemetry.service.requests import backend_of
from otel_agent_telemetry.service.responses import RequestError
from otel_agent_telemetry.storage.list_query import ListQuery
from otel_agent_telemetry.storage.pages import FIRST_PART, rows_at_a_time
from otel_agent_telemetry.storage.rows import Cursor
from otel_agent_telemetry.storage.run_list import page_of_list

_MEDIA_TYPES: Final[Mapping[str, str]] = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}


async def export_runs(request: Request) -> Response:
    """Return the file. Raises RequestError 404 for another format, 422 for filters that cannot be read."""
    form, address = request.path_params["form"], asked_list(request)
    if form not in _MEDIA_TYPES:
        raise RequestError(404, f"there is no export as {form[:20]!r}, only {' and '.join(_MEDIA_TYPES)}")
    if address.problems:
        raise RequestError(422, "; ".join(f"{name} {what}" for name, what in address.problems.items()))
    query = replace(address.query, sort="started", ascending=False, cursor=None, priced=True)
    headers = {**HEADERS, "Content-Disposition": f'attachment; filename="runs.{form}"'}
    return StreamingResponse(_parts(request, query, form), media_type=_MEDIA_TYPES[form], headers=headers)


async def _parts(request: Request, query: ListQuery, form: str) -> AsyncIterator[bytes]:
    """Yield the file in parts of some 2 MiB at most, or of one run; each is read when the one before is sent."""
    backend, buffer = backend_of(request), io.BytesIO()
    sink: ExportFormat
    sink = CsvFormat(buffer) if form == "csv" else JsonLinesFormat(buffer, git_hosts=dict(backend.settings.git_hosts))
    size, rows, part = 0, 0, FIRST_PART
    after: Cursor | None = None
    while True:
        asked = replace(query, cursor=after, limit=part)
        written, after = await backend.read_page(partial(_write_part, query=asked, sink=sink))
        text = buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
        if text:
            yield text
        if after is None:
            return
        size, rows = size + len(text), rows + written
        part = rows_at_a_time(size, rows)


def _write_part(connection: Connection, query: ListQuery, sink: ExportFormat) -> tuple[int, Cursor | None]:
    """Write one page to the sink; return its number of runs, and where the next one begins."""
    page = page_of_list(connection, query)
    sink.write([run.record for run in page.runs])
    return len(page.runs), page.last if page.has_more else page.stopped_at
