"""What the page of a run shows beside its timeline, read at one moment: the run, what is around and inside it, events.

Reads are bounded: at most MAX_INSIDE runs inside, MAX_SESSION runs of the session and a page of events.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.otel.content_choice import CONTENT_KEPT
from otel_agent_telemetry.page.commit_view import CommitOfRun, read_commits
from otel_agent_telemetry.page.formats import path_part, web_link
from otel_agent_telemetry.page.run_address import RunAddress
from otel_agent_telemetry.page.value_tree import CutText, Node, value_tree
from otel_agent_telemetry.storage.event_rows import EventLine, EventTypes, event_lines, event_types
from otel_agent_telemetry.storage.queries import children_of, find_run, list_runs
from otel_agent_telemetry.storage.run_filters import RunQuery
from otel_agent_telemetry.storage.tree_totals import TreeTotals, tree_totals
from otel_agent_telemetry.usage import LEFT_OUT_KEY
from otel_agent_telemetry.wire import load_object

MAX_INSIDE: Final = 100
MAX_SESSION: Final = 10
MAX_TREE: Final = 1_000
"""Runs inside a run whose tokens and cost are added."""
EVENTS_A_PAGE: Final = 100
_MAX_TYPES: Final = 30
_SUMMARY: Final = 600
_DETAILS: Final = 4_000
TEXT_COLUMNS: Final = {
    "error_summary": _SUMMARY,
    "error_details": _DETAILS,
    "input_summary": _SUMMARY,
    "output_summary": _SUMMARY,
}
"""Column → how many characters of it are shown; the whole text has an address of its own."""


@dataclass(frozen=True, slots=True)
class RunDetails:
    """A run for the head of its page. Lists have one more than is shown where there are more."""

    run: RunRecord
    texts: dict[str, CutText]
    whole: TreeTotals
    parent: RunRecord | None
    inside: Sequence[RunRecord]
    session: Sequence[RunRecord]
    commits: Sequence[CommitOfRun]
    trace_url: str | None
    left_out: Sequence[tuple[str, int]]
    keeps_content: bool
    """Whether its message content is kept because its agent or project was chosen."""
    keep_settings: tuple[str, str]
    command: str


def read_details(connection: Connection, run: RunRecord, *, settings: TelemetryConfig) -> RunDetails:
    """Return what the head of a run's page shows."""
    session: list[RunRecord] = []
    if run.session_id:
        found = list_runs(connection, RunQuery(session_id=run.session_id, limit=MAX_SESSION + 2, priced=False))
        session = [one for one in found if one.event_id != run.event_id]
    parent = find_run(connection, run_id=run.parent_run_id) if run.parent_run_id else None
    return RunDetails(
        run=run,
        texts={name: CutText.of(getattr(run, name) or "", limit) for name, limit in TEXT_COLUMNS.items()},
        whole=tree_totals(connection, run, max_runs=MAX_TREE),
        parent=None if parent is None else parent.record,
        inside=children_of(connection, run.run_id, limit=MAX_INSIDE + 1),
        session=session,
        commits=read_commits(connection, run, settings),
        trace_url=trace_link(settings.trace_url, run.trace_id),
        left_out=left_out_of(run),
        keeps_content=_context_of(run).get(CONTENT_KEPT) is True,
        keep_settings=(settings.variable_of("capture_content"), settings.variable_of("content_allow")),
        command=f"agent-telemetry show {shlex.quote(run.event_id)}",
    )


def trace_link(template: str | None, trace_id: str | None) -> str | None:
    """Return the address of a run's trace by the template of `TELEMETRY_TRACE_URL`, None without one or a trace."""
    if not template or not trace_id:
        return None
    return web_link(template.replace("{trace_id}", path_part(trace_id)))


def _context_of(run: RunRecord) -> dict[str, Any]:
    """Return the context of a run; an empty one where there is none."""
    return load_object(run.context_json or "{}") or {}


def left_out_of(run: RunRecord) -> list[tuple[str, int]]:
    """Return what was left out of a run as message content, and how often."""
    counts = _context_of(run).get(LEFT_OUT_KEY)
    if not isinstance(counts, dict):
        return []
    return [(name, times) for name, times in counts.items() if isinstance(times, int)]


def json_tree(text: str | None) -> list[Node]:
    """Return the tree of a JSON column; text that is no object is shown as it is."""
    if not text:
        return []
    value: Any = load_object(text)
    return value_tree(text if value is None else value)


@dataclass(frozen=True, slots=True)
class EventsPage:
    """A page of a run's events; `all_types`, `following`, `first` are ends of addresses, None for no such page."""

    lines: Sequence[EventLine]
    types: EventTypes
    choices: Sequence[tuple[str, int, str, bool]]
    all_types: str
    following: str | None
    first: str | None


def read_events(connection: Connection, event_id: str, query: RunAddress) -> EventsPage:
    """Return the page of events that an address asks for."""
    lines = event_lines(connection, event_id, limit=EVENTS_A_PAGE + 1, event_type=query.event_type, after=query.after)
    more, lines = len(lines) > EVENTS_A_PAGE, lines[:EVENTS_A_PAGE]
    types = event_types(connection, event_id)
    return EventsPage(
        lines,
        types,
        choices=[
            (kind, count, replace(query, event_type=kind, after=None).address(), kind == query.event_type)
            for kind, count in types.counts[:_MAX_TYPES]
        ],
        following=replace(query, after=lines[-1].cursor).address() if more else None,
        first=replace(query, after=None).address() if query.after else None,
        all_types=replace(query, event_type="", after=None).address(),
    )
