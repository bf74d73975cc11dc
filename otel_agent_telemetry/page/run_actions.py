"""What a reader can do to a run: delete it, and associate a commit. Each is a form that the page itself sends."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from otel_agent_telemetry.page.forms import checked_form, session_of
from otel_agent_telemetry.page.rendering import HEADERS, render
from otel_agent_telemetry.page.run_address import run_path
from otel_agent_telemetry.service.requests import backend_of, event_id_of, stored_run
from otel_agent_telemetry.service.responses import RequestError
from otel_agent_telemetry.service.routes_deletion import delete_with_receipts
from otel_agent_telemetry.service.routes_write import associate_with_run
from otel_agent_telemetry.service.tokens import ADMIN, WRITE
from otel_agent_telemetry.storage.tree_totals import tree_totals

_SEE_OTHER = 303
_COMMIT_FIELDS = ("commit_hash", "commit_author")


async def ask_to_delete(request: Request) -> Response:
    """Return the page that says what would be deleted, with the form that does it."""
    if not session_of(request).may(ADMIN):
        raise RequestError(403, f"this session may not {ADMIN}; sign in with a token that may")
    run = (await stored_run(request)).record
    whole = await backend_of(request).read(lambda connection: tree_totals(connection, run))
    return await render(request, "run_delete.html", {"run": run, "whole": whole, "path": run_path(run.event_id)})


async def delete(request: Request) -> Response:
    """Delete a run and the runs inside it, and show the receipt."""
    await checked_form(request, needed=ADMIN)
    receipts = await delete_with_receipts(request, deleted_by=session_of(request).token_name)
    return await render(request, "run_deleted.html", {"receipts": receipts})


async def associate(request: Request) -> Response:
    """Associate a commit with a run, and lead back to its page."""
    fields = await checked_form(request, needed=WRITE)
    body = {name: fields[name].strip() for name in _COMMIT_FIELDS if fields.get(name, "").strip()}
    await associate_with_run(request, {**body, "commit_source": "manual"})
    return RedirectResponse(run_path(event_id_of(request)), _SEE_OTHER, HEADERS)
