"""What a run and the runs inside it used together: tokens, calls, cost.

Runs are found level by level through `parent_run_id`, each once, so that runs which name each
other as parents end the search. At most MAX_RUNS are added, in at most MAX_LEVELS levels;
`complete` says whether that was all of them.

A run that called no model itself reports, where it has tokens, what is below it once more, as
frameworks do on the outermost span: of its figures and those of the runs inside it the greater
counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.storage.queries import runs_inside

MAX_RUNS: Final = 10_000
MAX_LEVELS: Final = 200
_REPORTED: Final = ("input_tokens", "output_tokens")


@dataclass(slots=True)
class TreeTotals:
    """The totals of a run and the runs inside it.

    `runs` counts all of them. `cost_usd` is None where no cost is known; `unpriced_runs` called a
    model and have none, so that the cost is of the others. `complete`: whether every run was added.
    """

    runs: int = 1
    model_calls: int = 0
    tool_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    unpriced_runs: int = 0
    complete: bool = True

    @classmethod
    def of(cls, record: RunRecord) -> TreeTotals:
        """Return the totals of one run alone."""
        return cls(
            model_calls=record.model_calls,
            tool_calls=record.tool_calls,
            input_tokens=record.input_tokens,
            output_tokens=record.output_tokens,
            cost_usd=record.cost_usd,
            unpriced_runs=int(record.cost_usd is None and record.model_calls > 0),
        )

    def add(self, inside: Iterable[TreeTotals]) -> None:
        """Add the totals of the runs directly inside."""
        below = TreeTotals(runs=0)
        for one in inside:
            for name in ("runs", "model_calls", "tool_calls", "unpriced_runs", *_REPORTED):
                setattr(below, name, getattr(below, name) + getattr(one, name))
            below.cost_usd = _sum(below.cost_usd, one.cost_usd)
        # A run that calls no model itself can only repeat what the runs inside it have used, and must not double it.
        repeats = self.model_calls == 0
        for name in _REPORTED:
            own, more = getattr(self, name), getattr(below, name)
            setattr(self, name, max(own, more) if repeats else own + more)
        costs = [cost for cost in (self.cost_usd, below.cost_usd) if cost is not None]
        self.cost_usd = max(costs, default=None) if repeats else _sum(self.cost_usd, below.cost_usd)
        self.runs += below.runs
        self.model_calls += below.model_calls
        self.tool_calls += below.tool_calls
        self.unpriced_runs += below.unpriced_runs


def tree_totals(connection: Connection, root: RunRecord, *, max_runs: int = MAX_RUNS) -> TreeTotals:
    """Return the totals of a run, as it is read, and of the runs inside it."""
    found: list[RunRecord] = [root]
    seen = {root.event_id}
    children: defaultdict[str, list[str]] = defaultdict(list)
    owner = {root.run_id: root.event_id}
    """`run_id` → the first run of that id; runs inside it are added to that one."""
    level = [root]
    complete = True
    for _ in range(MAX_LEVELS):
        room = max_runs - len(found)
        run_ids = {run.run_id for run in level if owner[run.run_id] == run.event_id}
        # One more than there is room for shows that the tree goes on.
        below = [run for run in runs_inside(connection, run_ids, limit=room + 1) if run.event_id not in seen]
        complete = complete and len(below) <= room
        level = below[:room]
        for run in level:
            seen.add(run.event_id)
            owner.setdefault(run.run_id, run.event_id)
            children[owner[run.parent_run_id or ""]].append(run.event_id)
        found += level
        if not level or not complete:
            break
    else:
        complete = False
    return _added(found, children, complete=complete)


def trees_of(connection: Connection, roots: Iterable[RunRecord]) -> list[TreeTotals]:
    """Return the totals of each run's tree; together they add at most MAX_RUNS runs inside."""
    trees = []
    room = MAX_RUNS
    for root in roots:
        tree = tree_totals(connection, root, max_runs=1 + room)
        room -= tree.runs - 1
        trees.append(tree)
    return trees


def _added(found: list[RunRecord], children: dict[str, list[str]], *, complete: bool) -> TreeTotals:
    """Return the totals of the first of these runs; a run comes after the one that it is in."""
    totals = {run.event_id: TreeTotals.of(run) for run in found}
    # From the leaves up: the totals of what is inside a run are whole before they are added to it.
    for run in reversed(found):
        if inside := children.get(run.event_id):
            totals[run.event_id].add(totals[event_id] for event_id in inside)
    whole = totals[found[0].event_id]
    whole.complete = complete
    return whole


def _sum(one: float | None, other: float | None) -> float | None:
    """Return the sum of two costs to 10^-9 US dollars, of which either may be unknown."""
    if one is None or other is None:
        return one if other is None else other
    return round(one + other, 9)
