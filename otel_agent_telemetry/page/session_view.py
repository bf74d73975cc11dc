"""The page of a session, `/sessions/{id}`: the runs of a conversation in their order, and their sum."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from otel_agent_telemetry.page.rendering import render
from otel_agent_telemetry.service.requests import backend_of
from otel_agent_telemetry.service.responses import RequestError
from otel_agent_telemetry.storage.figure_queries import spending_of_session
from otel_agent_telemetry.storage.figure_refresh import waiting_hours
from otel_agent_telemetry.storage.queries import runs_of_session
from otel_agent_telemetry.storage.rows import Cursor, clean_text
from otel_agent_telemetry.storage.session_sums import sum_of_session

_RUNS_A_PAGE: Final = 100


async def show_session(request: Request) -> Response:
    """Return a page of a session's runs, oldest first.

    Raises RequestError 404 for a session without runs, RecordError for a place that no page named.
    """
    session_id = clean_text(str(request.path_params["session_id"]))
    word = request.query_params.get("after")
    after = Cursor.from_text(word) if word else None
    found = await backend_of(request).read(lambda connection: _read(connection, session_id, after))
    if not found["sum"].runs:
        raise RequestError(404, f"session not found: no run has the session id {session_id[:80]!r}")
    return await render(request, "session.html", {"session_id": session_id, "after": after, **found})


def _read(connection: Connection, session_id: str, after: Cursor | None) -> dict[str, Any]:
    """Return what the page of a session shows: its sums, and one page of its runs."""
    whole = sum_of_session(connection, session_id)
    runs = runs_of_session(connection, session_id, after=after, limit=_RUNS_A_PAGE + 1)
    more = len(runs) > _RUNS_A_PAGE
    runs = runs[:_RUNS_A_PAGE]
    return {
        "sum": whole,
        "runs": [run.record for run in runs],
        "next": runs[-1].cursor.to_text() if more else "",
        "used": spending_of_session(connection, session_id),
        "waiting": waiting_hours(connection, whole.first[:10]) if whole.first else 0,
    }
