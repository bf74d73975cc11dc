"""The pages of agents, `/agents`, and of one agent over time, `/agents?agent=NAME`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from otel_agent_telemetry.page.period import CHOICES, Period, period_of
from otel_agent_telemetry.page.rendering import render
from otel_agent_telemetry.service.requests import backend_of
from otel_agent_telemetry.status import STATUSES
from otel_agent_telemetry.storage.agent_details import Cause, StepTimes, failures_of, slowest_steps
from otel_agent_telemetry.storage.figure_queries import (
    RunCounts,
    agent_counts,
    counts_by_period,
    duration_quantiles,
    quantiles_by_period,
    spending_by_model,
    spending_by_name,
    spending_by_period,
)
from otel_agent_telemetry.storage.figure_refresh import waiting_hours
from otel_agent_telemetry.storage.figures import DAY
from otel_agent_telemetry.storage.priced_sums import Spending

_AGENTS_SHOWN: Final = 100
_ROWS_SHOWN: Final = 15
_SHARES: Final = (0.5, 0.95)
_NO_RUNS: Final = RunCounts(dict.fromkeys(STATUSES, 0), 0, 0)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a line shows of an agent, or of one period of it."""

    runs: RunCounts = _NO_RUNS
    p50_ms: float | None = None
    p95_ms: float | None = None
    used: Spending = field(default_factory=Spending)


@dataclass(frozen=True, slots=True)
class AgentPage:
    """What the page of one agent shows, beside its figures by period, oldest first."""

    periods: list[tuple[str, Figures]]
    causes: list[Cause]
    causes_complete: bool
    steps: list[StepTimes]
    step_runs: int
    models: list[tuple[str, Spending]]


async def show_agents(request: Request) -> Response:
    """Return a line for each agent; with the parameter `agent` the page of that one. Raises RequestError."""
    backend = backend_of(request)
    period = period_of(request.query_params, backend.clock.now_ns())
    agent = request.query_params.get("agent", "")
    read = _read_agent if agent else _read_agents
    found, waiting = await backend.read(
        lambda connection: (read(connection, period, agent), waiting_hours(connection, period.periods[0]))
    )
    path = "/agents"
    values = {"period": period, "choices": CHOICES, "path": path, "waiting": waiting, "agent": agent, **found}
    return await render(request, "agent.html" if agent else "agents.html", values)


def _read_agents(connection: Connection, period: Period, _agent: str) -> dict[str, Any]:
    """Return the lines of all agents, the one with the most runs first, and those of the time before."""
    counts = agent_counts(connection, period.periods, limit=_AGENTS_SHOWN + 1)
    names = list(counts)[:_AGENTS_SHOWN]
    now = _figures(connection, period.periods, names, counts)
    before_counts = agent_counts(connection, period.before, names=names, limit=_AGENTS_SHOWN)
    before = _figures(connection, period.before, list(before_counts), before_counts)
    lines = [(name, now[name], before.get(name)) for name in names]
    return {"lines": lines, "more": len(counts) > _AGENTS_SHOWN}


def _figures(
    connection: Connection, periods: tuple[str, ...], names: list[str], counts: Mapping[str, RunCounts]
) -> dict[str, Figures]:
    """Return agent → its line of the table."""
    durations = duration_quantiles(connection, periods, names, _SHARES)
    used = spending_by_name(connection, "agent", periods, names)
    return {name: _line(counts[name], durations.get(name), used.get(name)) for name in names}


def _line(runs: RunCounts | None, quantiles: list[float | None] | None, used: Spending | None) -> Figures:
    """Return a line of the table; an agent without runs in the period has zeros."""
    p50_ms, p95_ms = quantiles or (None, None)
    return Figures(runs or _NO_RUNS, p50_ms, p95_ms, used or Spending())


def _read_agent(connection: Connection, period: Period, agent: str) -> dict[str, Any]:
    """Return the lines of one agent, and what else its page shows."""
    now, before = (
        _figures(connection, times, [agent], counts).get(agent)
        if (counts := agent_counts(connection, times, names=[agent], limit=1))
        else None
        for times in (period.periods, period.before)
    )
    first, last = period.periods[0], f"{period.periods[-1][:DAY]}T23:59:59.999999+00:00"
    causes, complete = failures_of(connection, agent, first, last, limit=_ROWS_SHOWN)
    steps, step_runs = slowest_steps(connection, agent, first, last, limit=_ROWS_SHOWN)
    models = spending_by_model(connection, period.periods, agent=agent)
    by_tokens = sorted(models.items(), key=lambda item: (-item[1].tokens, item[0]))
    page = AgentPage(_over_time(connection, period, agent), causes, complete, steps, step_runs, by_tokens)
    return {"now_figures": now or Figures(), "before_figures": before, "page": page}


def _over_time(connection: Connection, period: Period, agent: str) -> list[tuple[str, Figures]]:
    """Return the figures of each hour or day, those without runs too."""
    counts = counts_by_period(connection, period.periods, agent)
    durations = quantiles_by_period(connection, period.periods, agent, _SHARES)
    used = spending_by_period(connection, period.periods, agent=agent)
    return [(one, _line(counts.get(one), durations.get(one), used.get(one))) for one in period.periods]
