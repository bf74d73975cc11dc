"""The page of one run, `/runs/{event_id}`, and the parts of it that are asked for alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.page.rendering import HEADERS, render, render_in_two, wants_part
from otel_agent_telemetry.page.run_address import ONLY, RunAddress, run_path
from otel_agent_telemetry.page.run_changes import seen_now
from otel_agent_telemetry.page.run_details import TEXT_COLUMNS, json_tree, read_details, read_events
from otel_agent_telemetry.page.run_markdown import run_markdown
from otel_agent_telemetry.page.step_facts import facts_of
from otel_agent_telemetry.page.value_tree import json_text, value_tree
from otel_agent_telemetry.page.waterfall import exact_duration, read_waterfall
from otel_agent_telemetry.service.requests import backend_of, event_id_of, run_not_found
from otel_agent_telemetry.service.responses import RequestError
from otel_agent_telemetry.storage.event_rows import events_of_step, find_event
from otel_agent_telemetry.storage.queries import StoredRun, find_run
from otel_agent_telemetry.storage.step_rows import find_step
from otel_agent_telemetry.wire import load_object

_EVENTS_OF_STEP: Final = 100
_JSON_COLUMNS: Final = ("metrics_json", "context_json", "labels")
_FAR_NUMBER: Final = 2**63


async def show_run(request: Request) -> Response:
    """Return the page of a run; for htmx the part of it that is to be replaced: its timeline or its events."""
    query = RunAddress.of(request.query_params)
    target = request.headers.get("hx-target", "") if wants_part(request) else ""
    for part, read in (("timeline", _timeline), ("events", _events)):
        if target.endswith(f"#{part}"):
            values = await _read(request, lambda connection, run, read=read: read(request, connection, run, query))
            return await render(request, f"_{part}.html", values)
    values = await _read(request, lambda connection, run: _head(request, connection, run, query))

    async def read_rest() -> Mapping[str, Any]:
        rest: Mapping[str, Any] = await _read(
            request,
            lambda connection, run: (
                _timeline(request, connection, run, query) | _events(request, connection, run, query)
            ),
        )
        return rest

    return await render_in_two(request, "run.html", values, read_rest)


def _shared(run: RunRecord, query: RunAddress) -> dict[str, Any]:
    """Return what the page and its parts show."""
    return {"run": run, "path": run_path(run.event_id), "query": query, "only_words": ONLY}


def _timeline(request: Request, connection: Connection, run: StoredRun, query: RunAddress) -> dict[str, Any]:
    """Return what the timeline shows."""
    now_ns = backend_of(request).clock.now_ns()
    timeline = read_waterfall(connection, run.record, query, now_ns=now_ns)
    return {**_shared(run.record, query), "timeline": timeline}


def _events(_request: Request, connection: Connection, run: StoredRun, query: RunAddress) -> dict[str, Any]:
    """Return what the list of events shows."""
    return {**_shared(run.record, query), "events": read_events(connection, run.record.event_id, query)}


def _head(request: Request, connection: Connection, stored: StoredRun, query: RunAddress) -> dict[str, Any]:
    """Return what the page shows beside the timeline and the events, which may take longer to read."""
    run, settings = stored.record, backend_of(request).settings
    return {
        **_shared(run, query),
        "details": read_details(connection, run, settings=settings),
        "trees": {name: json_tree(getattr(run, name)) for name in _JSON_COLUMNS},
        # Of this view: what comes after it the stream brings, once more where the timeline has it already.
        "live_after": None if run.ended else seen_now(connection, run.event_id).to_text(),
    }


async def _read(request: Request, query: Any) -> Any:
    """Return the result of `query(connection, run)` for the run of the path. Raises RequestError 404, StorageError."""
    event_id = event_id_of(request)

    def read(connection: Connection) -> Any:
        run = find_run(connection, event_id=event_id)
        return None if run is None else query(connection, run)

    found = await backend_of(request).read(read)
    if found is None:
        raise run_not_found(event_id)
    return found


async def show_step(request: Request) -> Response:
    """Return one step with its attributes and events; `?whole=1` all of it as JSON text."""
    number = _number(request)

    def read(connection: Connection, run: StoredRun) -> Any:
        found = find_step(connection, run.record.event_id, number)
        if found is None:
            return "no step"
        row, step = found
        facts = facts_of(connection, [row])[row.id]
        events = events_of_step(connection, run.record.event_id, step.span_id, limit=_EVENTS_OF_STEP + 1)
        return {"run": run.record, "step": step, "row": row, "facts": facts, "lines": events}

    values = await _read(request, read)
    if values == "no step":
        raise RequestError(404, f"step not found: the run has no step {number}")
    step = values["step"]
    if "whole" in request.query_params:
        return _plain_text(json_text(dict(step.attributes), indent=2))
    shown = {
        "path": run_path(step.event_id),
        "tree": value_tree(dict(step.attributes)) if step.attributes else [],
        "duration_ms": exact_duration(values["row"]),
        "max_events": _EVENTS_OF_STEP,
    }
    template = "_step.html" if wants_part(request) else "run_step.html"
    return await render(request, template, {**values, **shown})


async def show_event(request: Request) -> Response:
    """Return one event with its whole payload; `?whole=1` as JSON text alone."""
    number = _number(request)
    found = await _read(request, lambda connection, run: (run, find_event(connection, run.record.event_id, number)))
    run, event = found
    if event is None:
        raise RequestError(404, f"event not found: the run has no event {number}")
    if "whole" in request.query_params:
        return _plain_text(event.payload or "")
    values = {"run": run.record, "path": run_path(run.record.event_id), "event": event}
    return await render(request, "run_event.html", {**values, "tree": json_tree(event.payload)})


async def show_text(request: Request) -> Response:
    """Return the whole text of one column of a run, as plain text."""
    column = request.path_params["column"]
    if column not in (*TEXT_COLUMNS, *_JSON_COLUMNS):
        raise RequestError(404, "not found: a page shows no such text of a run")
    run = await _read(request, lambda _, run: run.record)
    text = getattr(run, column) or ""
    value = load_object(text) if column in _JSON_COLUMNS else None
    return _plain_text(text if value is None else json_text(value, indent=2))


async def show_markdown(request: Request) -> Response:
    """Return the run as Markdown, to be pasted into an issue or a chat."""
    address = str(request.base_url).rstrip("/") + run_path(event_id_of(request))

    def read(connection: Connection, run: StoredRun) -> str:
        now_ns = backend_of(request).clock.now_ns()
        timeline = read_waterfall(connection, run.record, RunAddress(), now_ns=now_ns)
        events = read_events(connection, run.record.event_id, RunAddress())
        return run_markdown(run.record, timeline, events, address=address)

    return _plain_text(await _read(request, read))


def _number(request: Request) -> int:
    """Return the number of a row that the path names. Raises RequestError 404."""
    number = int(request.path_params["number"])
    # Beyond what a database can count to: PostgreSQL would answer with an error, not with "no such row".
    if number >= _FAR_NUMBER:
        raise RequestError(404, "not found: no row has this number")
    return number


def _plain_text(text: str) -> Response:
    """Return text that no browser takes for anything else."""
    return PlainTextResponse(text.encode("utf-8", "replace"), headers=dict(HEADERS))
