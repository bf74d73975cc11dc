"""New runs of a list as server-sent events, `/live/runs`, with the list's own filters in the address.

The database is asked once a second for the runs that were stored since, whenever they began: a host may deliver its
runs later than another. A poll that finds nothing reads next to nothing. A message holds rows of the table: `new`
ones, and rows that have `changed` because their run has ended. Its id is the number of the run that was stored last,
with which a browser that was away goes on. The address also has `open`, the runs that the reader sees running, and
`columns`, those that the table has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response

from otel_agent_telemetry.errors import StorageError
from otel_agent_telemetry.page.list_address import ListAddress, list_address
from otel_agent_telemetry.page.live import HEARTBEAT_S, MAX_STREAMS, RETRY_AFTER_S, LiveRuns
from otel_agent_telemetry.page.rendering import HEADERS, templates
from otel_agent_telemetry.page.runs_view import now_of, rows_of
from otel_agent_telemetry.service.requests import backend_of
from otel_agent_telemetry.service.responses import RequestError
from otel_agent_telemetry.storage.queries import StoredRun, ended_among
from otel_agent_telemetry.storage.run_list import matching, numbers_after

_log = logging.getLogger(__name__)
_OURS: Final = frozenset({"open", "columns", "newest"})
_MAX_OPEN: Final = 100
_MAX_NEW: Final = 300
"""New runs that one poll reads; the next one goes on."""
_OVERLAP: Final = 100
"""Numbers that are looked at again."""
_MAX_DIGITS: Final = 19


@dataclass(slots=True)
class _Reader:
    """What one reader has: the run that was stored last, those that it sees running, and the columns of its table."""

    address: ListAddress
    number: int
    open_runs: list[str]
    columns: frozenset[str]
    recent: set[int] | None = None
    """The numbers below `number` that were looked at: of two transactions the later may be committed first."""

    def read(self, connection: Connection) -> tuple[Sequence[StoredRun], Sequence[StoredRun]]:
        """Return the runs that are new, newest first, and those that have ended since; they are seen from then on."""
        stored = numbers_after(connection, self.number - _OVERLAP, _OVERLAP + _MAX_NEW)
        if self.recent is None:
            self.recent = {number for number in stored if number <= self.number}
        new = matching(connection, self.address.query, [number for number in stored if number not in self.recent])
        self.number = max([self.number, *stored])
        self.recent = {number for number in stored if number > self.number - _OVERLAP}
        ended = ended_among(connection, self.open_runs)
        gone = {run.record.event_id for run in ended}
        running = [run.record.event_id for run in new if not run.record.ended]
        self.open_runs = [*running, *(one for one in self.open_runs if one not in gone)][:_MAX_OPEN]
        return new, ended


async def stream_list(request: Request) -> Response:
    """Return the stream of a list. Raises RequestError: 422 for its address, 503 when MAX_STREAMS are open."""
    live: LiveRuns = request.app.state.live_runs
    given = request.query_params
    address = list_address({name: value for name, value in given.items() if name not in _OURS}, now_of(request))
    if address.problems:
        raise RequestError(422, "; ".join(f"{name} {what}" for name, what in address.problems.items()))
    if live.streams >= MAX_STREAMS:
        raise RequestError(503, f"{MAX_STREAMS} pages are shown live already", headers={"Retry-After": RETRY_AFTER_S})
    reader = _Reader(
        address,
        _number(given.get("newest", "")),
        [one for one in given.get("open", "").split(",") if one][:_MAX_OPEN],
        frozenset(given.get("columns", "").split(",")),
    )
    return EventSourceResponse(_messages(request, live, reader), ping=HEARTBEAT_S, headers=dict(HEADERS))


def _number(word: str) -> int:
    """Return the number of the run that a reader has got to; 0 for a word that is none."""
    return int(word) if word.isascii() and word.isdigit() and len(word) < _MAX_DIGITS else 0


async def _messages(request: Request, live: LiveRuns, reader: _Reader) -> AsyncIterator[ServerSentEvent]:
    """Yield what comes, until the reader goes."""
    live.streams += 1
    try:
        while True:
            try:
                new, ended = await backend_of(request).read(reader.read)
            except StorageError as problem:  # away for a moment: the next poll asks again
                _log.debug("following the list of runs: %s", problem)
                new, ended = (), ()
            for event, runs in (("changed", ended), ("new", new)):
                if runs:
                    yield ServerSentEvent(_rows(request, reader, runs), event=event, id=str(reader.number))
            await asyncio.sleep(live.poll_s)
    finally:
        live.streams -= 1


def _rows(request: Request, reader: _Reader, runs: Sequence[StoredRun]) -> str:
    """Return runs as rows of the reader's table."""
    values = {"rows": rows_of(request, reader.address, runs), "shown": reader.columns, "now": now_of(request)}
    text = templates().get_template("_run_rows.html").render(values)
    # A run may hold a lone surrogate, which no encoding of a stream can.
    return text.encode("utf-8", "replace").decode()
