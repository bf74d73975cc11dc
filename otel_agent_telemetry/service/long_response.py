"""Long responses: sent in pieces as fast as the client reads, and counted while they are in memory.

A page is read in one short transaction and not while it is sent: a slow reader would hold a view of the
database open, behind which SQLite's writers wait. So what a page holds is bounded where it is read
(`storage.pages`), it is kept as the items that were read, and each is let go of when it has been
sent. All responses of more than a piece share a budget, of which one client has a quarter
(`request_body.BodyBudget`): clients that do not read cost others nothing but a 503 once it is used
up, until their connections are cut (`connection_limits`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from otel_agent_telemetry.service.guards import client_of
from otel_agent_telemetry.service.request_body import BodyBudget
from otel_agent_telemetry.service.responses import OverloadedError, error_response

_PIECE: Final = 64 << 10


class LongResponse(Response):
    """A JSON array that may be long, of items that are JSON already. Sent once.

    `budget` is the service's for responses; without room in it the response is a 503.
    """

    media_type = "application/json"

    def __init__(self, items: Iterable[bytes], headers: dict[str, str], budget: BodyBudget) -> None:
        self._items = deque(items)
        self._size = sum(map(len, self._items)) + max(len(self._items) - 1, 0) + len(b"[]")
        super().__init__(headers={**headers, "Content-Length": str(self._size)})
        self._budget = budget

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response; waits for the client between two pieces."""
        if self._size <= _PIECE:
            await self._send(send, iter((b"".join(self._array()),)))
            return
        with self._budget.reserve(client_of(scope)) as reservation:
            try:
                reservation.grow(self._size)
            except OverloadedError as problem:
                response = error_response(scope, problem.status, str(problem), problem.headers)
                await response(scope, receive, send)
                return
            await self._send(send, _pieces(self._array()), on_sent=reservation.shrink)

    def _array(self) -> Iterator[bytes]:
        """Yield the bytes of the array, item by item; an item is let go of when the next one is asked for."""
        between = b"["
        while self._items:
            yield between
            yield self._items.popleft()
            between = b","
        yield b"]" if between == b"," else b"[]"

    async def _send(
        self, send: Send, pieces: Iterator[bytes], *, on_sent: Callable[[int], None] = lambda _: None
    ) -> None:
        """Send the head and the pieces."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        left = self._size
        for piece in pieces:
            left -= len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": left > 0})
            on_sent(len(piece))


def _pieces(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the bytes of the parts in pieces of 64 KiB."""
    piece = bytearray()
    for part in parts:
        for at in range(0, len(part), _PIECE):
            piece += part[at : at + _PIECE]
            while len(piece) >= _PIECE:
                yield bytes(piece[:_PIECE])
                del piece[:_PIECE]
    if piece:
        yield bytes(piece)
