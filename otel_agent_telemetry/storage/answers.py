"""What agents cost, what they did and what came of it in a time, by agent, model, session, repository, user or label.

Cost and tokens are those of the figures (`figure_window`). Commits are those associated with runs in the time; where
there are none, what metrics of coding agents counted of their sessions, as are changed lines. What nobody
reported is None, and not zero.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, func, select

from otel_agent_telemetry.clock import iso_utc, parse_iso
from otel_agent_telemetry.storage.figure_queries import total
from otel_agent_telemetry.storage.figure_window import FigureWindow
from otel_agent_telemetry.storage.figures import DAY
from otel_agent_telemetry.storage.priced_sums import Spending
from otel_agent_telemetry.storage.session_metrics import SessionSums, figures_between
from otel_agent_telemetry.storage.statements import rows_with
from otel_agent_telemetry.storage.tables import agent_runs, commits
from otel_agent_telemetry.storage.work_sums import NO_WORK, Work, names_of

DIMENSIONS: Final = ("agent", "model", "session", "repository", "user", "label")
_LABEL: Final = "label:"
_MOST_NS: Final = 3_660 * 86_400 * 1_000_000_000
"""Ten years: how far back a time may reach."""
_runs: Final = agent_runs.c
_owner: Final = (
    _runs.agent_name,
    _runs.host,
    _runs.session_id,
    _runs.user_id,
    _runs.git_repo,
    _runs.labels,
    _runs.model,
)
_by_run_id: Final = select(_runs.run_id, *_owner)
_by_session: Final = select(_runs.session_id.label("of_session"), *_owner)


@dataclass(slots=True)
class Outcome:
    """What came of runs. None is not known."""

    hashes: set[str] = field(default_factory=set)
    metered: Spending = field(default_factory=Spending)
    """What metrics counted of sessions of which no run has any usage."""
    counted_commits: float | None = None
    lines_added: float | None = None
    lines_removed: float | None = None

    def add_session(self, figures: Mapping[str, float]) -> None:
        """Add what metrics counted of a session: tokens and cost are there only where its runs have none."""
        cost = figures.get("cost_usd")
        read, written = (int(figures.get(name, 0)) for name in ("input_tokens", "output_tokens"))
        known = Spending(
            input_tokens=read, output_tokens=written, cost_nusd=(cost or 0.0) * 1e9, has_cost=cost is not None
        )
        self.metered.include(known)
        self.counted_commits = _sum(self.counted_commits, figures.get("commits"))
        self.lines_added = _sum(self.lines_added, figures.get("lines_added"))
        self.lines_removed = _sum(self.lines_removed, figures.get("lines_removed"))

    @property
    def commits(self) -> int | None:
        """Return how many commits came of them: those that are known by hash, else those that were counted."""
        # Not added: a hook and the agent's own counter see the same commits.
        if self.hashes:
            return len(self.hashes)
        return _whole(self.counted_commits)


def _sum(one: float | None, other: float | None) -> float | None:
    """Return the sum of two numbers of which either may be unknown."""
    return one if other is None else other + (one or 0.0)


def _whole(number: float | None) -> int | None:
    """Return a number of things as an integer; None stays unknown."""
    return None if number is None else int(number)


@dataclass(frozen=True, slots=True)
class Line:
    """One name and its figures."""

    name: str
    used: Spending
    work: Work
    outcome: Outcome

    @property
    def tool_calls(self) -> int | None:
        """Return the calls of tools; None where nothing that the runs did on the way was reported."""
        return self.work.tool_calls if self._has_steps else None

    @property
    def step_errors(self) -> int | None:
        """Return the steps that failed; None in the same case."""
        return self.work.step_errors if self._has_steps else None

    @property
    def _has_steps(self) -> bool:
        return bool(self.used.calls or self.work.tool_calls or self.work.step_errors)

    def to_json(self) -> dict[str, Any]:
        """Return the line as the API and the command have it."""
        return {
            "name": self.name,
            "cost_usd": None if self.used.cost_usd is None else round(self.used.cost_usd, 9),
            "unpriced_tokens": sum(self.used.unpriced.values()),
            "input_tokens": self.used.input_tokens,
            "output_tokens": self.used.output_tokens,
            "model_calls": self.used.calls,
            "turns": self.work.runs,
            "failed": self.work.failed,
            "tool_calls": self.tool_calls,
            "rejected_tools": self.work.rejected,
            "step_errors": self.step_errors,
            "commits": self.outcome.commits,
            "lines_added": _whole(self.outcome.lines_added),
            "lines_removed": _whole(self.outcome.lines_removed),
        }


@dataclass(frozen=True, slots=True)
class Answers:
    """The lines of a time, the most expensive first, all runs together, and whether there are more lines."""

    since: str
    by: str
    lines: list[Line]
    whole: Line
    more: bool

    def to_json(self) -> dict[str, Any]:
        """Return the answer of `GET /api/v1/stats`."""
        lines = [line.to_json() for line in self.lines]
        return {"since": self.since, "by": self.by, "lines": lines, "total": self.whole.to_json(), "more": self.more}


def check_by(by: str) -> str:
    """Return what lines are made by, if it can be. Raises ValueError with the rule."""
    if by in DIMENSIONS or (by.startswith(_LABEL) and len(by) > len(_LABEL)):
        return by
    raise ValueError(f"is none of {', '.join(DIMENSIONS)}, or label:NAME")


def answers(connection: Connection, by: str, *, since_ns: int, at_ns: int, limit: int) -> Answers:
    """Return what the runs created between two instants cost and did; `by` a dimension, or one label: `label:team`."""
    # A time is cut into hours: nobody may ask for those of two thousand years, in which there was no run.
    since_ns = max(since_ns, _first_day_ns(connection), at_ns - _MOST_NS)
    window = FigureWindow.between(connection, since_ns, at_ns, with_open=False)
    return answers_of(connection, window, by, since=iso_utc(since_ns), until=iso_utc(at_ns), limit=limit)


def answers_of(connection: Connection, window: FigureWindow, by: str, *, since: str, until: str, limit: int) -> Answers:
    """Return the same by the figures of a window; commits and metrics are those between two times."""
    dimension, prefix = ("label", f"{by.removeprefix(_LABEL)}=") if by.startswith(_LABEL) else (by, "")
    by_model = window.by_model()
    outcomes, all_outcomes = _outcomes(connection, dimension, since=since, until=until)
    if dimension == "model":
        used, work = by_model, window.work("model")
    else:
        some = window.some_names(dimension, limit=_looked_at(dimension, limit))
        names = [name for name in dict.fromkeys((*some, *outcomes)) if name.startswith(prefix)]
        used, work = window.spending(dimension, names), window.work(dimension, names)
    lines = []
    for name in dict.fromkeys((*used, *work, *outcomes)):
        if name.startswith(prefix):
            outcome = outcomes.get(name, Outcome())
            spent = total((used.get(name, Spending()), outcome.metered))
            lines.append(Line(name.removeprefix(prefix), spent, work.get(name, NO_WORK), outcome))
    lines.sort(key=lambda line: (-line.used.cost_nusd, -line.used.tokens, -line.work.runs, line.name))
    everything = NO_WORK
    for one in window.work("agent").values():
        everything = everything.plus(one)
    whole = Line("", total((*by_model.values(), all_outcomes.metered)), everything, all_outcomes)
    return Answers(since, by, lines[:limit], whole, more=len(lines) > limit)


def _first_day_ns(connection: Connection) -> int:
    """Return the midnight (UTC) before the first run was created; 0 without one, or where its time cannot be read."""
    first = connection.execute(select(func.min(_runs.created_at))).scalar()
    try:
        return parse_iso(str(first)[:DAY])
    except (ValueError, OverflowError):
        return 0


def _looked_at(dimension: str, limit: int) -> int:
    """Return how many names are looked at to find the most expensive: they are found by tokens, and not by cost."""
    # Sessions are found by an index, one period after the other; there may be as many as runs.
    return limit + 1 if dimension == "session" else 10 * limit


def _outcomes(connection: Connection, dimension: str, *, since: str, until: str) -> tuple[dict[str, Outcome], Outcome]:
    """Return name → what came of its runs in a time, and what came of all."""
    found: defaultdict[str, Outcome] = defaultdict(Outcome)
    whole = Outcome()
    wanted = select(commits.c.run_id, commits.c.commit_hash)
    made = connection.execute(wanted.where(commits.c.associated_at >= since, commits.c.associated_at <= until)).all()
    owners = {row.run_id: row for row in rows_with(connection, _by_run_id, _runs.run_id, {row.run_id for row in made})}
    for run_id, commit_hash in made:
        whole.hashes.add(commit_hash)
        for name in _names(owners.get(run_id), dimension):
            found[name].hashes.add(commit_hash)
    # Metrics name no run, only the session that they counted for.
    sessions = figures_between(connection, since=since, until=until)
    of_session = _owners_of_sessions(connection, sessions)
    for one in sessions:
        whole.add_session(one.figures)
        owner = of_session.get(one.session_id)
        # Of a session without a run only its sender and its id are known.
        known = {"agent": one.sender, "session": one.session_id}
        for name in _names(owner, dimension) if owner is not None else filter(None, [known.get(dimension)]):
            found[name].add_session(one.figures)
    return dict(found), whole


def _owners_of_sessions(connection: Connection, sessions: Iterable[SessionSums]) -> dict[str, Any]:
    """Return session → one of its runs, whose agent, model and repository stand for all of them."""
    ids = {one.session_id for one in sessions if one.session_id}
    return {row.of_session: row for row in rows_with(connection, _by_session, _runs.session_id, ids)}


def _names(owner: Any, dimension: str) -> list[str]:
    """Return the names of a dimension under which a run counts."""
    if owner is None:
        return []
    if dimension == "model":
        return [owner.model or ""]
    return [name for of, name in names_of(owner) if of == dimension]
