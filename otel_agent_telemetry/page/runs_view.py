"""The list of runs, `/`: filters, order and place are in its address, see `list_address`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.page.formats import cut
from otel_agent_telemetry.page.list_address import LABELS, WHEN, ListAddress, list_address
from otel_agent_telemetry.page.rendering import render, wants_part
from otel_agent_telemetry.service.requests import backend_of, encoder_of
from otel_agent_telemetry.status import STATUSES
from otel_agent_telemetry.storage.counts import count_by
from otel_agent_telemetry.storage.list_query import SORTS
from otel_agent_telemetry.storage.queries import StoredRun, runs_named
from otel_agent_telemetry.storage.run_list import (
    COUNTED,
    MAX_PRICED,
    Count,
    ListPage,
    last_number,
    page_of_list,
    place_of,
)

_MAX_NAMES: Final = 300
"""Names that a field offers; any other can be typed."""
_BY_ID: Final = 5
_ERROR_CHARACTERS: Final = 200
_COLUMNS: Final = {
    "items": ("items_discovered", "items_succeeded", "items_failed", "items_skipped"),
    "calls": ("model_calls",),
    "tokens": ("input_tokens", "output_tokens"),
    "cost": ("cost_usd",),
    "error": ("error_summary",),
    "host": ("host",),
    "commit": ("git_commit_hash",),
    "session": ("session_id",),
}
"""Columns of the table that are left out where no run of the page has a value → the columns of a run that they show."""


@dataclass(frozen=True, slots=True)
class Row:
    """A run as a row shows it; `place` is where a page continues after it, `address` where the run's page is."""

    run: RunRecord
    place: str
    address: str
    error: str
    commit_url: str | None


@dataclass(frozen=True, slots=True)
class _Read:
    """What one page is made of."""

    page: ListPage
    by_id: Sequence[RunRecord]
    agents: list[str]
    jobs: list[str]
    newest: int = 0
    """The number of the run that was stored last: later ones come live."""


async def show_runs(request: Request) -> Response:
    """Return the list that the address asks for; only the table, when htmx asks for a part."""
    address = asked_list(request)
    if not wants_part(request) and len(address.values) != len(request.query_params):
        # A form sends every field, filled in or not; the address that is kept and shared holds what was asked for.
        return RedirectResponse(_own_address(address), 303)
    read = await backend_of(request).read(lambda connection: _read(connection, address))
    values = {
        "address": address,
        "page": read.page,
        "rows": rows_of(request, address, read.page.runs),
        "by_id": [(run, run_address(run.event_id, address.state)) for run in read.by_id],
        "shown": shown_columns(read.page.runs),
        "count": _count_words(read.page.count),
        "is_live": _is_live(address),
        "newest": read.newest,
        "most_priced": MAX_PRICED,
        "is_empty": not read.agents,
        "service": str(request.base_url).rstrip("/"),
        "choices": {"agent": read.agents, "job": read.jobs, "status": STATUSES, "when": WHEN, "sort": SORTS},
        "labels": LABELS,
        "now": now_of(request),
    }
    if wants_part(request):
        response = await render(request, "_runs.html", values, status=422 if address.problems else 200)
        response.headers["HX-Push-Url"] = quote(_own_address(address), safe="/?&=%+:,.-_~")
        return response
    return await render(request, "runs.html", values, status=422 if address.problems else 200)


def _is_live(address: ListAddress) -> bool:
    """Return whether new runs come at the top of this page: it is the first one, the newest first."""
    query = address.query
    is_first = query.cursor is None or (address.backwards and "before" not in address.values)
    return is_first and query.sort == "started" and not query.ascending and not address.problems


def now_of(request: Request) -> datetime:
    """Return the time by the service's clock."""
    return datetime.fromtimestamp(backend_of(request).clock.now_ns() / 1e9, UTC)


def asked_list(request: Request) -> ListAddress:
    """Return what the address of a request asks for."""
    return list_address(request.query_params, now_of(request))


def _own_address(address: ListAddress) -> str:
    """Return the address of the list as it is kept and shared: what was asked for, and the place."""
    place = {name: address.values[name] for name in ("after", "before") if name in address.values}
    return address.link(**place)


def _read(connection: Connection, address: ListAddress) -> _Read:
    """Return what the page shows; nothing is searched where a filter cannot be read."""
    agents, jobs = (list(count_by(connection, name))[:_MAX_NAMES] for name in ("agent_name", "job_type"))
    # A filter that cannot be read must not be left out: the list would show what nobody asked for.
    if address.problems:
        return _Read(ListPage(), (), agents, jobs)
    page = page_of_list(connection, address.query, backwards=address.backwards)
    if address.backwards and not page.has_more:
        # Newer runs have come since, or the page would begin with fewer rows than it can hold.
        page = page_of_list(connection, replace(address.query, cursor=None))
        address.values.pop("before")
    text = address.query.text
    # A search that ended early may have missed the very run whose id was pasted in.
    by_id = runs_named(connection, text, limit=_BY_ID) if text and page.stopped_at is not None else []
    return _Read(page, by_id, agents, jobs, last_number(connection))


def rows_of(request: Request, address: ListAddress, runs: Sequence[StoredRun]) -> list[Row]:
    """Return runs as rows of the table; the links to them keep the list's filters."""
    link, state = encoder_of(request).commit_url, address.state
    return [
        Row(
            run.record,
            place.to_text() if (place := place_of(address.query, run)) is not None else "",
            run_address(run.record.event_id, state),
            cut((run.record.error_summary or "").strip().partition("\n")[0], _ERROR_CHARACTERS),
            link(run.record.git_repo, run.record.git_commit_hash),
        )
        for run in runs
    ]


def run_address(event_id: str, state: str) -> str:
    """Return the address of a run's page, with the state of the list that leads there."""
    path = f"/runs/{quote(event_id, safe='', errors='replace')}"
    return f"{path}?list={quote(state, safe='')}" if state else path


def shown_columns(runs: Sequence[StoredRun]) -> set[str]:
    """Return the columns that some of the runs have a value for."""
    return {
        column
        for column, names in _COLUMNS.items()
        if any(getattr(run.record, name) not in (None, 0, "") or _is_free(run, name) for run in runs for name in names)
    }


def _is_free(run: StoredRun, name: str) -> bool:
    """Return whether a cost is known to be 0, which is not the same as not known."""
    return name == "cost_usd" and run.record.cost_usd is not None


def _count_words(count: Count | None) -> str:
    """Return how many runs match, in words that claim no more than was counted; nothing where it was not."""
    if count is None:
        return ""
    noun = "run" if count.runs == 1 else "runs"
    if count.exact:
        return f"{count.runs:,} {noun}"
    if count.searched is None:
        return f"{COUNTED:,}+ runs"
    return f"{count.runs:,} {noun} of the {count.searched:,} that were searched"
