"""The endpoint that deletes a run. With tokens it needs one that may `admin`."""

from __future__ import annotations

from functools import partial
from typing import Final

import anyio
from starlette.requests import Request
from starlette.responses import Response

from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.deletion import Deletion
from otel_agent_telemetry.operations.deletion import note_marks
from otel_agent_telemetry.service import audit_schemas, run_schemas
from otel_agent_telemetry.service.openapi import OperationGroup, responses
from otel_agent_telemetry.service.requests import backend_of, event_id_of, run_not_found, token_name_of
from otel_agent_telemetry.service.responses import json_response
from otel_agent_telemetry.storage.deletions import delete_run

_ANYBODY: Final = "no token"

operations = OperationGroup("deletion")


@operations.add(
    "DELETE",
    "/api/v1/runs/{event_id}",
    summary="Delete a run and the runs inside it",
    path_parameters=run_schemas.EventIdPath,
    responses=responses(audit_schemas.RunDeleted, 200, 404, 429, 503),
)
async def delete(request: Request) -> Response:
    """Delete a run, the runs inside it, and their events and steps; the response comes when they are gone.

    A receipt stays, which a repeated call returns again. No later state of these runs is stored.
    """
    receipts = await delete_with_receipts(request, deleted_by=token_name_of(request))
    first = receipts[0]
    inside = [{"event_id": one.event_id, "run_id": one.run_id, "deleted_at": one.deleted_at} for one in receipts[1:]]
    return json_response(
        {
            "status": "deleted",
            "event_id": first.event_id,
            "run_id": first.run_id,
            "deleted_at": first.deleted_at,
            "deleted_by": first.deleted_by,
            "runs_inside": inside,
        }
    )


async def delete_with_receipts(request: Request, *, deleted_by: str) -> list[Deletion]:
    """Delete the run of the path and the runs inside it; return their receipts, its own first, when they are gone.

    Raises RequestError 404, StorageError.
    """
    backend, event_id = backend_of(request), event_id_of(request)
    work = partial(
        delete_run,
        event_id=event_id,
        deleted_at=iso_utc(backend.clock.now_ns()),
        deleted_by=deleted_by or _ANYBODY,
    )
    receipts = await backend.change(work)
    if not receipts:
        raise run_not_found(event_id)
    # Again for a repeated call: the first may have ended between the commit and the journal.
    await anyio.to_thread.run_sync(note_marks, backend.settings, receipts)
    return receipts
