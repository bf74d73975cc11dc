"""A shorter way to the endpoints that take most requests.

They read their request themselves, so matching a route, solving its dependencies and the
stacks around that, which cost about as much as all the rest of a single write, give them
nothing. Answers, errors and the description are those of the same endpoint on the long way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from otel_agent_telemetry.service.problems import answer_to

_Call = tuple[str, str]
"""Method and path."""

DIRECT: Final = frozenset({("POST", "/api/v1/runs"), ("POST", "/v1/traces")})


class DirectRoutes:
    """Innermost of the middlewares: calls the endpoints of `routes` whose request matches exactly."""

    def __init__(self, app: ASGIApp, *, routes: Mapping[_Call, APIRoute]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the endpoint, or let the app find one."""
        route = self._routes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        request = Request(scope, receive, send)
        try:
            answer = await route.endpoint(request)
        except Exception as problem:  # every error has its answer
            answer = answer_to(scope, problem)
        await answer(scope, receive, send)


def direct_routes(routes: Iterable[BaseRoute]) -> dict[_Call, APIRoute]:
    """Those of the routes that go the short way."""
    return {
        call: route
        for route in routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
        if (call := (method, route.path)) in DIRECT
    }
