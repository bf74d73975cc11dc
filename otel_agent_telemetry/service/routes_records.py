"""`POST /api/v1/records`: all of a run in one call, as the lines that stand in the journal of its host.

From a line to a row in five stops:

| stop | file | does |
|---|---|---|
| deliverer | `delivery/journal_drain.py` | reads lines behind its cursor, sends them as they are |
| endpoint | this file | reads the body within the limits of every body |
| lines | `record_lines.py` | turns each line into a state, an event, a step or an association, or refuses it |
| writer | `writer.py` | commits them with what other requests brought |
| rows | `storage/runs.py`, `storage/journal_lines.py` | the state that stands; events and steps by their line |

The response comes after the commit, so a deliverer moves its cursor on 200 and on nothing else.
What a deliverer says of itself stands in headers (`deliverer_report`), and is committed with the lines; a request
without lines is a sign of life.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import anyio
from starlette.requests import Request
from starlette.responses import Response

from otel_agent_telemetry.deliverer_report import DelivererReport
from otel_agent_telemetry.service import schemas
from otel_agent_telemetry.service.backend import Backend
from otel_agent_telemetry.service.guards import client_of
from otel_agent_telemetry.service.openapi import OperationGroup, responses
from otel_agent_telemetry.service.record_lines import RecordLines, batch_of, parse_lines
from otel_agent_telemetry.service.request_body import media_type_of, read_body
from otel_agent_telemetry.service.requests import backend_of
from otel_agent_telemetry.service.responses import RequestError, json_response
from otel_agent_telemetry.storage.store import WriteBatch

RECORDS_VERSION: Final = 1
"""The version of this call, which `/version` names; a deliverer that does not find it uses the other calls."""
NDJSON: Final = "application/x-ndjson"
_LARGE_BODY: Final = 32 << 10
"""Bytes from which a body is parsed in another thread, as for spans over OTLP."""
_REQUEST_BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {NDJSON: {"schema": {"type": "string", "description": "Lines of a journal (docs/files.md)."}}},
}

operations = OperationGroup("records")


@operations.add(
    "POST",
    "/api/v1/records",
    summary="Store lines of a journal: states of runs, events and steps",
    responses=responses(schemas.RecordsStored, 200, 400, 413, 415, 422, 429, 503),
    request_body=_REQUEST_BODY,
)
async def store_records(request: Request) -> Response:
    """Store up to 10,000 lines as they stand in a journal; what cannot be stored is listed in `refused`.

    The same lines again, in any order, change nothing. Events and steps may come before the state of their run.
    """
    if media_type_of(request) != NDJSON:
        raise RequestError(415, f"Content-Type must be {NDJSON}")
    backend, report = backend_of(request), DelivererReport.from_headers(request.headers.get)
    with backend.body_budget.reserve(client_of(request.scope)) as reservation:
        body = await read_body(request, reservation, max_bytes=backend.settings.api_max_body_bytes)
        found = parse_lines(body) if len(body) < _LARGE_BODY else await anyio.to_thread.run_sync(parse_lines, body)
        await _store(backend, found, report)
    counts = found.counts()
    return json_response(
        {
            "lines": found.lines,
            **{name: counts[name] for name in ("runs", "events", "spans", "commits")},
            "torn": found.torn,
            "refused": [{"line": one.line, "reason": one.reason} for one in found.refused],
            "store": backend.store_id,
        }
    )


async def _store(backend: Backend, found: RecordLines, report: DelivererReport | None) -> None:
    """Commit the items of a request with what its sender says of itself. Raises as `Backend.write_each` does."""
    reports = () if report is None else (report,)
    # In one transaction: a backlog that is smaller by these lines must not be seen before they are.
    _, refused = await backend.write_each(found.items, lambda items: replace(batch_of(items), reports=reports))
    for (line, _), reason in refused:
        found.refuse(line, reason)
    found.refused.sort(key=lambda one: one.line)
    if reports and not found.items:
        await backend.write(WriteBatch(reports=reports))
