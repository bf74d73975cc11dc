"""The page of runs, `/`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from otel_agent_telemetry.page.rendering import render
from otel_agent_telemetry.service.requests import backend_of
from otel_agent_telemetry.storage.queries import page_of_runs
from otel_agent_telemetry.storage.run_filters import RunQuery


async def show_runs(request: Request) -> Response:
    """Return the newest runs."""
    query = RunQuery(plumbing=False, limit=50)
    runs = await backend_of(request).read(lambda connection: page_of_runs(connection, query))
    return await render(request, "runs.html", {"runs": [run.record for run in runs]})
