"""The changes of an open run as server-sent events, `/runs/{event_id}/live`.

The database is asked, never another part of this process: whichever service of several stores a
run, each shows it. All streams of a run share one poll a second and one rendering. A message holds HTML
and its place (`run_changes.Seen`) as its id, with which a browser that was away goes on. A stream
ends when its run has ended and nothing more came for some polls: events may arrive after the end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Final, TypeVar

from sqlalchemy import Connection
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response

from otel_agent_telemetry.errors import StorageError
from otel_agent_telemetry.page.live_html import live_html
from otel_agent_telemetry.page.rendering import HEADERS
from otel_agent_telemetry.page.run_changes import Changes, Seen, changes_since, seen_now
from otel_agent_telemetry.service.backend import Backend
from otel_agent_telemetry.service.requests import backend_of, event_id_of, run_not_found
from otel_agent_telemetry.service.responses import RequestError
from otel_agent_telemetry.storage.queries import find_run

T = TypeVar("T")
_log = logging.getLogger(__name__)
MAX_STREAMS: Final = 100
POLL_S: Final = 1.0
HEARTBEAT_S: Final = 15
_POLLS_WITHOUT_ROWS: Final = 3
"""Polls without a change after the end of a run until its streams end."""
_MAX_WAITING: Final = 50
"""Messages that wait for a slow reader; then its stream ends, and its browser comes again with its place."""
_RETRY_MS: Final = 2_000
RETRY_AFTER_S: Final = "10"

Message = ServerSentEvent | None
"""A message of a stream; None is its end."""


class LiveRuns:
    """The streams of a service, by run. For the event loop alone.

    One poll a second for each run that is shown, however many browsers show it.
    """

    def __init__(self, *, poll_s: float = POLL_S) -> None:
        self.poll_s = poll_s
        self.streams = 0
        self._feeds: dict[str, _Feed] = {}

    def join(self, event_id: str, backend: Backend) -> tuple[_Feed, asyncio.Queue[Message]]:
        """Return the poll of a run, begun when no stream has it, and a queue for what comes from now on."""
        feed = self._feeds.get(event_id)
        if feed is None:
            feed = self._feeds[event_id] = _Feed(event_id, backend, self.poll_s)
        self.streams += 1
        return feed, feed.new_queue()

    def leave(self, feed: _Feed, queue: asyncio.Queue[Message]) -> None:
        """Take a stream out; with the last one of a run its poll ends."""
        self.streams -= 1
        feed.queues.discard(queue)
        if not feed.queues:
            del self._feeds[feed.event_id]
            # Nobody shows the run any more; the next stream begins a poll of its own.
            feed.task.cancel()


class _Feed:
    """One run's poll, and the queues of the streams that show it."""

    def __init__(self, event_id: str, backend: Backend, poll_s: float) -> None:
        self.event_id = event_id
        self.queues: set[asyncio.Queue[Message]] = set()
        self.begun = asyncio.Event()
        """Set once the poll has its first place, or has ended without one."""
        self._backend, self._poll_s = backend, poll_s
        self.task = asyncio.create_task(self._poll())

    def new_queue(self) -> asyncio.Queue[Message]:
        """Return the queue of a new stream."""
        queue: asyncio.Queue[Message] = asyncio.Queue(_MAX_WAITING)
        self.queues.add(queue)
        if self.task.done():
            queue.put_nowait(None)
        return queue

    async def message_since(self, seen: Seen) -> ServerSentEvent | None:
        """Return what a reader at a place lacks; None when there is no such run. Raises StorageError."""
        found = await self._backend.read(lambda connection: self._rendered(connection, seen))
        return None if found is None else _message(*found)

    async def _poll(self) -> None:
        """Read what is new until the run has ended and is quiet, and give it to the streams."""
        try:
            place = await self._read_patiently(lambda connection: seen_now(connection, self.event_id))
            self.begun.set()
            await self._follow(place)
        except Exception:  # the task's outer edge: its streams end, and the service goes on
            _log.exception("following the run %s", self.event_id)
        finally:
            self.begun.set()
            self._give(None)

    async def _follow(self, place: Seen) -> None:
        """Give what is new after a place to the streams; return when there will be no more."""
        state: tuple[Any, ...] = ()
        sent: dict[tuple[str, int], str | None] = {}
        without_rows = 0
        while without_rows < _POLLS_WITHOUT_ROWS:
            await asyncio.sleep(self._poll_s)
            changes = await self._read_patiently(partial(changes_since, event_id=self.event_id, seen=place))
            if changes is None:  # deleted
                return
            changes, place = _unsent(changes, sent), changes.seen
            has_rows = bool(changes.events or changes.steps)
            if has_rows or state != (changes.run, changes.inside):
                self._give(_message(await self._read_patiently(partial(self._html, changes=changes)), place))
            state = (changes.run, changes.inside)
            # Lines of a run may still be on their way when its end has come, by another route.
            without_rows = without_rows + 1 if changes.run.record.ended and not has_rows else 0

    async def _read_patiently(self, query: Callable[[Connection], T]) -> T:
        """Return what a query returns; while the database is away, ask again at each poll."""
        while True:
            try:
                return await self._backend.read(query)
            except StorageError as problem:
                _log.debug("following the run %s: %s", self.event_id, problem)
                await asyncio.sleep(self._poll_s)

    def _rendered(self, connection: Connection, seen: Seen) -> tuple[str, Seen] | None:
        """Return what is new after a place as HTML, and the place then; None when there is no such run."""
        changes = changes_since(connection, self.event_id, seen)
        return None if changes is None else (self._html(connection, changes=changes), changes.seen)

    def _html(self, connection: Connection, *, changes: Changes) -> str:
        """Return changes as the parts of the page that they replace or add."""
        now_ns = self._backend.clock.now_ns()
        return live_html(connection, changes, settings=self._backend.settings, now_ns=now_ns)

    def _give(self, message: Message) -> None:
        """Put a message into every queue; a stream whose queue is full ends."""
        # Nobody waits here: a browser that has stopped reading must not hold up the others.
        for queue in self.queues:
            if queue.full():
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait(message)


def _unsent(changes: Changes, sent: dict[tuple[str, int], str | None]) -> Changes:
    """Return the changes without what the streams have: rows may be read twice."""
    events = [event for event in changes.events if ("event", event.id) not in sent]
    steps = [step for step in changes.steps if sent.get(("step", step.id), "") != step.end_time]
    sent.update({("event", event.id): None for event in events})
    sent.update({("step", step.id): step.end_time for step in steps})
    return changes._replace(events=events, steps=steps)


def _message(html: str, seen: Seen) -> ServerSentEvent:
    """Return a message of a stream; its id is the place at which a browser that comes again goes on."""
    # A run may hold a lone surrogate, which no encoding of a stream can.
    data = html.encode("utf-8", "replace").decode()
    return ServerSentEvent(data, event="change", id=seen.to_text(), retry=_RETRY_MS)


async def stream_run(request: Request) -> Response:
    """Return the stream of a run. Raises RequestError: 404, 503 when MAX_STREAMS are open."""
    live: LiveRuns = request.app.state.live_runs
    event_id = event_id_of(request)
    if await backend_of(request).read(lambda connection: find_run(connection, event_id=event_id)) is None:
        raise run_not_found(event_id)
    if live.streams >= MAX_STREAMS:
        raise RequestError(503, f"{MAX_STREAMS} pages are shown live already", headers={"Retry-After": RETRY_AFTER_S})
    place = request.headers.get("last-event-id") or request.query_params.get("after", "")
    messages = _messages(request, event_id, Seen.from_text(place) or Seen())
    return EventSourceResponse(messages, ping=HEARTBEAT_S, headers=dict(HEADERS))


async def _messages(request: Request, event_id: str, seen: Seen) -> AsyncIterator[ServerSentEvent]:
    """Yield what the reader lacks, then what comes."""
    live: LiveRuns = request.app.state.live_runs
    if live.streams >= MAX_STREAMS:  # of several requests at once each has found a place free; the browser comes again
        return
    feed, queue = live.join(event_id, backend_of(request))
    try:
        # First the poll has its place: what came between this read and that place would be lost.
        await feed.begun.wait()
        first = await feed.message_since(seen)
        if first is not None:
            yield first
        while (message := await queue.get()) is not None:
            yield message
        yield ServerSentEvent("", event="end")
    finally:
        live.leave(feed, queue)
