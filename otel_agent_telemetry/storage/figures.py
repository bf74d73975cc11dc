"""Figures of a period: runs of each agent by status and duration, and what they used of each model.

A period is an hour, `2026-01-31T23`, or a day, `2026-01-31`, of `created_at` in UTC. Figures are
computed from the runs here; `figure_refresh` keeps them in tables, so that a page costs
the same at a million runs as at a thousand. Plumbing is left out, as in every list.

What runs used is summed in dimensions: by `agent`, `host`, `session`, `user`, `repository` and `label` of
the run itself, and by `tree`, the agent of the outermost run around it. Each run's own usage counts
once under each of its names. A run that called no model reports, where runs inside it have usage, what
those have once more (`tree_totals`): such a report is left out. What runs did (`work_sums`) is summed
in the same dimensions but `tree`, and by `model`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, case, func, or_, select

from otel_agent_telemetry.status import FAILED, RUNNING, STATUSES
from otel_agent_telemetry.storage.durations import MAX_MS, class_of
from otel_agent_telemetry.storage.statements import rows_with
from otel_agent_telemetry.storage.tables import agent_periods, agent_runs, run_rollups
from otel_agent_telemetry.storage.tree_totals import MAX_LEVELS
from otel_agent_telemetry.storage.usage_sums import Sums, Usage, usage_of
from otel_agent_telemetry.storage.work_sums import Work, names_of, work_of

HOUR: Final = len("2026-01-31T23")
DAY: Final = len("2026-01-31")
_ROWS_AT_A_TIME: Final = 1_000
AGENT_SUMS: Final = tuple(column.name for column in agent_periods.c)[2:]
"""The sums of a row of `agent_periods`, in their order."""
_STATUS_PLACES: Final[dict[str, int]] = {status: AGENT_SUMS.index(status) for status in STATUSES}
_FAILED: Final = _STATUS_PLACES[FAILED]
_ENDED, _DURATION = AGENT_SUMS.index("ended"), AGENT_SUMS.index("duration_ms")

_runs: Final = agent_runs.c
_rollup: Final = run_rollups.c
_joined: Final = agent_runs.outerjoin(run_rollups, _rollup.event_id == _runs.event_id)
_parent: Final = func.coalesce(_runs.parent_run_id, _rollup.parent_run_id)
HAS_USAGE: Final = or_(
    _runs.model_calls > 0, _runs.input_tokens > 0, _runs.output_tokens > 0, _runs.cost_usd.is_not(None)
)
_metrics: Final = func.coalesce(_rollup.metrics_json, _runs.metrics_json)
_own_columns: Final = (
    *(_runs.agent_name, _runs.status, _runs.duration_ms, _runs.run_id, _runs.tool_calls),
    *(_runs.host, _runs.session_id, _runs.user_id, _runs.git_repo, _runs.labels),
)
_counted: Final = select(
    *_own_columns,
    _parent.label("parent"),
    _runs.model_calls,
    _runs.model,
    _runs.cost_usd,
    case((HAS_USAGE, _metrics)).label("metrics"),
    _metrics.label("all_metrics"),
).select_from(_joined)
_around: Final = select(_runs.run_id, _runs.agent_name, _parent.label("parent"), _runs.created_at, _runs.event_id)
_inside: Final = select(_runs.parent_run_id).where(HAS_USAGE)
_inside_by_spans: Final = select(_rollup.parent_run_id).select_from(_joined).where(HAS_USAGE)


Places = Sequence[tuple[str, str]]
"""Dimensions and names."""


class UsageKey(NamedTuple):
    """What usage of a period is kept apart by: a dimension, a name in it, and the members of `usage_sums.Key`."""

    dimension: str
    name: str
    model: str
    provider: str
    priced_by: str
    call_size: int


@dataclass(slots=True)
class Figures:
    """The figures of one period, as the four tables hold them."""

    agents: dict[str, list[int]] = field(default_factory=dict)
    """Agent → the sums of `agent_periods`."""
    durations: defaultdict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))
    """Agent and class of durations → runs that ended."""
    usage: defaultdict[UsageKey, Sums] = field(default_factory=lambda: defaultdict(Sums))
    work: dict[tuple[str, str], Work] = field(default_factory=dict)
    """Dimension and name → what the runs under it did."""

    def add_run(self, agent: str, status: str, duration_ms: int) -> None:
        """Count a run by its status, and by its duration if it has ended."""
        sums = self.agents.get(agent)
        if sums is None:
            sums = self.agents[agent] = [0] * len(AGENT_SUMS)
        # A status that is none of ours, written past this package, is a failure, as the client takes it.
        sums[_STATUS_PLACES.get(status, _FAILED)] += 1
        if status != RUNNING:
            sums[_ENDED] += 1
            sums[_DURATION] += min(duration_ms, MAX_MS)
            self.durations[agent, class_of(duration_ms)] += 1

    def add_work(self, places: Iterable[tuple[str, str]], work: Work) -> None:
        """Add what a run did, at each of some dimensions and names."""
        for place in places:
            known = self.work.get(place)
            self.work[place] = work if known is None else known.plus(work)

    def add_usage(self, dimension: str, name: str, usage: Usage) -> None:
        """Add what runs used under a name of a dimension."""
        for key, sums in usage.items():
            place = UsageKey(dimension, name, *key)
            self.usage[place] = self.usage[place].plus(sums)


def in_period(period: str) -> ColumnElement[bool]:
    """Return the condition that a run was created in an hour or a day."""
    minutes = ":59:59.999999+00:00"
    last = period + minutes if len(period) == HOUR else f"{period}T23{minutes}"
    return _runs.created_at.between(period, last)


def figures_of(connection: Connection, period: str) -> Figures:
    """Return the figures of a period, computed from its runs. Reads each of them."""
    return figures_where(connection, in_period(period))


def figures_where(connection: Connection, *conditions: ColumnElement[bool]) -> Figures:
    """Return the figures of the runs that meet all of some conditions. Reads each of them."""
    figures = Figures()
    of_tree: defaultdict[tuple[str, str | None], Usage] = defaultdict(dict)
    reports: list[tuple[Any, Places, Usage]] = []
    for run in _rows(connection, _counted.where(*conditions, _runs.plumbing == 0)):
        figures.add_run(run.agent_name, run.status, run.duration_ms)
        places: Places = names_of(run)
        figures.add_work((*places, ("model", run.model or "")), work_of(run))
        if run.metrics is None:
            continue
        usage = usage_of(run.metrics, model=run.model, cost_usd=run.cost_usd)
        if usage and not run.model_calls:
            reports.append((run, places, usage))
        else:
            _add(figures, of_tree, run, places, usage)
    repeated = _with_usage_inside(connection, {run.run_id for run, *_ in reports})
    for run, places, usage in reports:
        if run.run_id not in repeated:
            _add(figures, of_tree, run, places, usage)
    outermost = outermost_agents(connection, {parent for _, parent in of_tree if parent})
    for (agent, parent), usage in of_tree.items():
        figures.add_usage("tree", outermost.get(parent or "") or agent, usage)
    return figures


def _rows(connection: Connection, selected: Select[Any]) -> Iterator[Any]:
    """Yield rows some at a time: a day may have a million."""
    with connection.execute(selected, execution_options={"yield_per": _ROWS_AT_A_TIME}) as found:
        yield from found


def _add(
    figures: Figures, of_tree: dict[tuple[str, str | None], Usage], run: Any, places: Places, usage: Usage
) -> None:
    """Add a run's usage at each of its places, and to the usage whose outermost run is looked for later."""
    for dimension, name in places:
        figures.add_usage(dimension, name, usage)
    known = of_tree[run.agent_name, run.parent]
    for key, sums in usage.items():
        known[key] = known[key].plus(sums) if key in known else sums


def _with_usage_inside(connection: Connection, run_ids: Iterable[str]) -> set[str]:
    """Return those of these run ids whose runs have runs with usage directly inside."""
    wanted = list(run_ids)
    return {
        *(row[0] for row in rows_with(connection, _inside, _runs.parent_run_id, wanted)),
        *(row[0] for row in rows_with(connection, _inside_by_spans, _rollup.parent_run_id, wanted)),
    }


def outermost_agents(connection: Connection, run_ids: Iterable[str]) -> dict[str, str]:
    """Return run id → the agent of the outermost run around the run, or of itself; without ids that no run has.

    Of several runs with one id the one that was created first counts. Runs that are inside of
    each other in a circle have no outermost run, and are left out.
    """
    known: dict[str, tuple[str, str | None]] = {}
    waiting, wanted = set(run_ids), set(run_ids)
    for _ in range(MAX_LEVELS):
        level = _around_by_id(connection, waiting)
        known |= level
        waiting = {parent for _, parent in level.values() if parent} - known.keys()
        if not waiting:
            break
    found = ((run_id, _outermost(known, run_id)) for run_id in wanted & known.keys())
    return {run_id: agent for run_id, agent in found if agent is not None}


def _around_by_id(connection: Connection, run_ids: Iterable[str]) -> dict[str, tuple[str, str | None]]:
    """Return run id → agent and parent of its first run."""
    selected = _around.select_from(_joined)
    rows = sorted(
        rows_with(connection, selected, _runs.run_id, run_ids), key=lambda row: (row[3], row[4]), reverse=True
    )
    return {row[0]: (row[1], row[2]) for row in rows}


def _outermost(known: Mapping[str, tuple[str, str | None]], run_id: str) -> str | None:
    """Return the agent at the end of the chain of parents; None for a circle."""
    seen = {run_id}
    agent, parent = known[run_id]
    while parent and parent in known:
        if parent in seen:
            return None
        seen.add(parent)
        agent, parent = known[parent]
    return agent
