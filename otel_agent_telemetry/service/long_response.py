"""Long responses: sent in pieces as fast as the client reads, and counted while they are in memory.

A response that is given to the server whole lies in its buffer until the client has read it, and
once more in the response. In pieces the server holds one of them. All responses of more than a
piece share a budget, of which one client has a quarter (`request_body.BodyBudget`): clients that
do not read cost others nothing but a 503 once it is used up, until their connections are cut
(`connection_limits`).
"""

from __future__ import annotations

from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from otel_agent_telemetry.service.guards import client_of
from otel_agent_telemetry.service.request_body import BodyBudget
from otel_agent_telemetry.service.responses import OverloadedError, error_response

_PIECE: Final = 64 << 10


class LongResponse(Response):
    """JSON that may be long. `budget` is the service's for responses; without room in it the response is a 503."""

    media_type = "application/json"

    def __init__(self, body: bytes, headers: dict[str, str], budget: BodyBudget) -> None:
        super().__init__(body, headers=headers)
        self._budget = budget

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response; waits for the client between two pieces."""
        if len(self.body) <= _PIECE:
            await super().__call__(scope, receive, send)
            return
        with self._budget.reserve(client_of(scope)) as reservation:
            try:
                reservation.grow(len(self.body))
            except OverloadedError as problem:
                response = error_response(scope, problem.status, str(problem), problem.headers)
                await response(scope, receive, send)
                return
            await self._send_pieces(send)

    async def _send_pieces(self, send: Send) -> None:
        """Send the body in pieces, so that the client's reading sets the pace."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        # A view: slicing bytes would copy a response of megabytes once more.
        body = memoryview(self.body)
        for at in range(0, len(body), _PIECE):
            more = at + _PIECE < len(body)
            await send({"type": "http.response.body", "body": bytes(body[at : at + _PIECE]), "more_body": more})
