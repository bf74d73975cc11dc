"""What alerts know of a run: whose it is, when it began and ended, what it used. Read from its row, priced here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, case, func, select

from otel_agent_telemetry.alert_rules import ALL, COST, DURATION, EACH, TOKENS, Rule
from otel_agent_telemetry.clock import parse_iso
from otel_agent_telemetry.status import FAILED, RUNNING, TIMEOUT
from otel_agent_telemetry.storage.figures import DAY, HAS_USAGE
from otel_agent_telemetry.storage.priced_sums import Spending
from otel_agent_telemetry.storage.run_filters import is_running
from otel_agent_telemetry.storage.statements import rows_with
from otel_agent_telemetry.storage.tables import agent_runs, run_events, run_rollups, run_spans
from otel_agent_telemetry.storage.usage_sums import usage_of
from otel_agent_telemetry.storage.work_sums import kept_name
from otel_agent_telemetry.wire import load_object

NS: Final = 1_000_000_000
MOST_OPEN: Final = 10_000
"""Open runs that are looked at, the newest of them."""
_runs: Final = agent_runs.c
_metrics: Final = case((HAS_USAGE, func.coalesce(run_rollups.c.metrics_json, _runs.metrics_json)))
_columns: Final = (
    *(_runs.id, _runs.event_id, _runs.run_id, _runs.agent_name, _runs.session_id, _runs.user_id, _runs.labels),
    *(_runs.status, _runs.created_at, _runs.start_time, _runs.end_time, _runs.updated_at),
    *(_runs.input_tokens, _runs.output_tokens, _runs.model, _runs.cost_usd),
    _metrics.label("metrics"),
)
_facts: Final = (
    select(*_columns)
    .select_from(agent_runs.outerjoin(run_rollups, run_rollups.c.event_id == _runs.event_id))
    .where(_runs.plumbing == 0)
)


@dataclass(frozen=True, slots=True)
class RunFact:
    """One run. `end_ns`: None while it is open; `cost_usd`: None where nobody knows it.

    `unpriced`: it used tokens whose cost nobody knows. `names`: scope → the names that it counts under.
    """

    event_id: str
    run_id: str
    names: dict[str, tuple[str, ...]]
    created_ns: int
    start_ns: int
    end_ns: int | None
    updated_ns: int
    has_failed: bool
    tokens: int
    cost_usd: float | None
    unpriced: bool

    @property
    def agent(self) -> str:
        """Return the run's agent."""
        return self.names["agent"][0]

    def ended_by(self, at_ns: int) -> bool:
        """Return whether the run had ended at an instant."""
        return self.end_ns is not None and self.end_ns <= at_ns

    def duration_s(self, at_ns: int) -> float:
        """Return how long the run had taken at an instant."""
        end_ns = self.end_ns if self.end_ns is not None and self.end_ns <= at_ns else at_ns
        return max(end_ns - self.start_ns, 0) / NS

    def value(self, measure: str, at_ns: int) -> float | None:
        """Return cost, tokens or duration of the run at an instant, as far as its row holds them."""
        if measure == DURATION:
            return self.duration_s(at_ns)
        if measure == TOKENS:
            return float(self.tokens)
        assert measure == COST
        # A run that used nothing has cost nothing; one whose tokens have no price has an unknown cost.
        return 0.0 if self.cost_usd is None and not self.unpriced else self.cost_usd


def subjects_of(rule: Rule, names: dict[str, tuple[str, ...]]) -> Iterable[str]:
    """Return the names in a rule's scope under which a run counts; "" for all runs. None of them: it does not."""
    if rule.scope == ALL:
        return ("",)
    found = names.get(rule.scope, ())
    if rule.of == EACH:
        return found
    if rule.is_each:
        return [name for name in found if name.startswith(rule.of.removesuffix(EACH))]
    return (rule.of,) if rule.of in found else ()


def fact_of(row: Any) -> RunFact:
    """Return what a row of `agent_runs` holds of its run."""
    used = Spending()
    # Most runs used no model, and their JSON is not parsed.
    if row.metrics is not None:
        for key, sums in usage_of(row.metrics, model=row.model, cost_usd=row.cost_usd).items():
            used.add(row.created_at[:DAY], key, sums)
    end_ns = None if row.status == RUNNING else _instant(row.end_time or row.updated_at)
    return RunFact(
        event_id=row.event_id,
        run_id=row.run_id,
        names={
            "agent": (row.agent_name,),
            "session": (row.session_id,) if row.session_id else (),
            "user": (row.user_id,) if row.user_id else (),
            "label": label_names(row.labels),
        },
        created_ns=_instant(row.created_at),
        start_ns=_instant(row.start_time),
        end_ns=end_ns,
        updated_ns=_instant(row.updated_at),
        has_failed=row.status in (FAILED, TIMEOUT),
        tokens=row.input_tokens + row.output_tokens,
        cost_usd=used.cost_usd,
        unpriced=any(used.unpriced.values()),
    )


def label_names(labels: str | None) -> tuple[str, ...]:
    """Return the labels of a run as their names are kept, `team=search`."""
    found = (load_object(labels) or {}) if labels else {}
    return tuple(kept_name(f"{name}={value}") for name, value in sorted(found.items()))


def _instant(text: str) -> int:
    """Return nanoseconds since 1970; 0 for text that is no time, as a row written past this package may hold."""
    try:
        return parse_iso(text)
    except (ValueError, OverflowError):
        return 0


def open_facts(connection: Connection) -> list[RunFact]:
    """Return the runs that have not ended, at most 10,000, the newest of them."""
    newest = _facts.where(is_running()).order_by(_runs.created_at.desc()).limit(MOST_OPEN)
    return [fact_of(row) for row in connection.execute(newest)]


def facts_of(connection: Connection, event_ids: Iterable[str]) -> list[RunFact]:
    """Return the runs with these ids that are stored."""
    return [fact_of(row) for row in rows_with(connection, _facts, _runs.event_id, list(event_ids))]


def arrived_facts(connection: Connection, after_id: int, *, ended_after: str) -> list[RunFact]:
    """Return the ended runs that were stored after a row, and ended after a time."""
    arrived = _facts.where(_runs.id > after_id, _runs.end_time > ended_after, ~is_running())
    return [fact_of(row) for row in connection.execute(arrived)]


def last_id(connection: Connection) -> int:
    """Return the id of the row that was stored last; 0 for none."""
    return int(connection.execute(select(func.max(_runs.id))).scalar() or 0)


def id_before(connection: Connection, created_after: str) -> int:
    """Return the id before those of all runs that were created after a time."""
    first = connection.execute(select(func.min(_runs.id)).where(_runs.created_at > created_after)).scalar()
    return last_id(connection) if first is None else int(first) - 1


def facts_where(connection: Connection, *conditions: ColumnElement[bool]) -> Iterator[RunFact]:
    """Yield the runs that meet some conditions, in the order of their creation."""
    ordered = _facts.where(*conditions).order_by(_runs.created_at, _runs.id)
    with connection.execute(ordered, execution_options={"yield_per": 1_000}) as found:
        yield from map(fact_of, found)


def facts_between(connection: Connection, first: str, last: str) -> Iterator[RunFact]:
    """Yield the runs that were created between two times, both included, in the order of their creation."""
    return facts_where(connection, _runs.created_at >= first, _runs.created_at <= last)


def signs_of_run(connection: Connection, fact: RunFact) -> list[int]:
    """Return the instants at which a run showed that it is alive: its beginning, events, steps, and last state."""
    times = [
        run_spans.c.start_time,
        run_spans.c.end_time,
        run_events.c.timestamp,
    ]
    found = {fact.start_ns, fact.updated_ns}
    for moment in times:
        known = select(moment).where(moment.table.c.event_id == fact.event_id, moment.is_not(None))
        found |= {_instant(text) for text in connection.execute(known).scalars()}
    return sorted(found)


def past_of_agent(connection: Connection, agent: str, *, before: str, limit: int) -> list[RunFact]:
    """Return the newest runs of an agent that were created before a time, the newest first; the open ones too."""
    newest: Select[Any] = _facts.where(_runs.agent_name == agent, _runs.created_at < before)
    ordered = newest.order_by(_runs.created_at.desc(), _runs.id.desc()).limit(limit)
    return [fact_of(row) for row in connection.execute(ordered)]
