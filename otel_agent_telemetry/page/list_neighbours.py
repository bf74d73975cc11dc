"""From a run to the next and the previous one of the list that led to it: `/runs/{event_id}/next`, `…/previous`.

They are looked for when they are asked for, so that they cost the page of a run nothing. Where the list ends, its
reader comes back to it.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.page.list_address import ListAddress, list_address
from otel_agent_telemetry.page.rendering import HEADERS
from otel_agent_telemetry.page.runs_view import now_of, run_address
from otel_agent_telemetry.service.requests import backend_of, event_id_of, run_not_found
from otel_agent_telemetry.storage.queries import find_run
from otel_agent_telemetry.storage.run_list import neighbour

_MAX_MEMBERS: Final = 100


async def go_to_next(request: Request) -> Response:
    """Redirect to the run after this one in its list. Raises RequestError 404."""
    return await _go(request, backwards=False)


async def go_to_previous(request: Request) -> Response:
    """Redirect to the run before this one in its list. Raises RequestError 404."""
    return await _go(request, backwards=True)


async def _go(request: Request, *, backwards: bool) -> Response:
    """Redirect to a neighbour, or to the list where it has none."""
    event_id, address = event_id_of(request), _list_of(request)

    def read(connection: Connection) -> tuple[bool, RunRecord | None]:
        run = find_run(connection, event_id=event_id)
        if run is None or address.problems:
            return run is not None, None
        return True, neighbour(connection, address.query, run, backwards=backwards)

    exists, found = await backend_of(request).read(read)
    if not exists:
        raise run_not_found(event_id)
    target = address.link() if found is None else run_address(found.event_id, address.state)
    return RedirectResponse(target, 303, headers=dict(HEADERS))


def _list_of(request: Request) -> ListAddress:
    """Return the list that the address of a run names; the whole list where it names none."""
    try:
        members = dict(parse_qsl(request.query_params.get("list", ""), max_num_fields=_MAX_MEMBERS))
    except ValueError:
        members = {}
    return list_address(members, now_of(request))
