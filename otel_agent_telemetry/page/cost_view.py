"""The page of costs, `/cost`: by agent, model, host, session and day, of each run's own usage or of whole trees."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from otel_agent_telemetry.page.period import CHOICES, Period, period_of
from otel_agent_telemetry.page.rendering import render
from otel_agent_telemetry.service.requests import backend_of
from otel_agent_telemetry.service.responses import RequestError
from otel_agent_telemetry.storage.answers import DIMENSIONS, answers_of
from otel_agent_telemetry.storage.figure_queries import (
    greatest_sessions,
    greatest_users,
    spending_by_model,
    spending_by_name,
    spending_by_period,
    total,
)
from otel_agent_telemetry.storage.figure_refresh import waiting_hours
from otel_agent_telemetry.storage.figure_window import FigureWindow
from otel_agent_telemetry.storage.figures import DAY
from otel_agent_telemetry.storage.priced_sums import Spending

VIEWS: Final = {
    "agent": "Agent",
    "tree": "Outermost agent",
    "model": "Model",
    "host": "Host",
    "session": "Session",
    "repository": "Repository",
    "user": "User",
    "label": "Label",
    "day": "Day",
}
"""What `by` may be → the head of its column."""
_NAMES_SHOWN: Final = 100


async def show_cost(request: Request) -> Response:
    """Return the costs of a time by what the parameter `by` names, agents by default. Raises RequestError 422."""
    backend = backend_of(request)
    period = period_of(request.query_params, backend.clock.now_ns())
    by = request.query_params.get("by") or "agent"
    if by not in VIEWS:
        raise RequestError(422, f"by: {by[:20]!r} is none of {', '.join(VIEWS)}")
    found, waiting = await backend.read(
        lambda connection: (_read(connection, period, by), waiting_hours(connection, period.periods[0]))
    )
    values = {"period": period, "choices": CHOICES, "path": "/cost", "waiting": waiting, "by": by, "views": VIEWS}
    return await render(request, "cost.html", {**values, **found})


def _read(connection: Connection, period: Period, by: str) -> dict[str, Any]:
    """Return what costs are shown, and what came of them where the lines have names that did something."""
    done = None
    if by in DIMENSIONS:
        # The kept figures alone, as the costs beside them: the page says how far they are behind.
        window = FigureWindow(connection, period.periods)
        first, last = (period.periods[place] for place in (0, -1))
        done = answers_of(connection, window, by, since=first, until=f"{last[:DAY]}T99", limit=_NAMES_SHOWN)
    return {**_costs(connection, period, by), "done": done}


def _costs(connection: Connection, period: Period, by: str) -> dict[str, Any]:
    """Return the lines, the most expensive first but days in their order, and the sum of all runs."""
    by_model = spending_by_model(connection, period.periods)
    if by == "model":
        lines = by_model
    elif by == "day":
        used = spending_by_period(connection, period.periods)
        return {"lines": [(one, used.get(one, Spending())) for one in period.periods], **_whole(by_model, more=False)}
    else:
        find = greatest_sessions if by == "session" else partial(greatest_users, dimension=by)
        names = find(connection, periods=period.periods, limit=_NAMES_SHOWN + 1)
        lines = spending_by_name(connection, by, period.periods, names)
    ordered = sorted(lines.items(), key=lambda item: (-item[1].cost_nusd, -item[1].tokens, item[0]))
    more = len(ordered) > _NAMES_SHOWN
    return {"lines": ordered[:_NAMES_SHOWN], **_whole(by_model, more=more)}


def _whole(by_model: dict[str, Spending], *, more: bool) -> dict[str, Any]:
    """Return what all models cost together, and whether the table leaves some out."""
    return {"whole": total(by_model.values()), "more": more}
