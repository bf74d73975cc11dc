"""What the spans of a run add up to: kept beside a run's own state, and joined to it when the run is read.

Roll-ups stand outside the order of states (`model.order_key`): a state never carries them, so no
state can win or lose by what happened to have arrived before it. A roll-up holds what the run's
own span reports of the whole, the sum over its steps, the run that it is inside of, and what
decides whether an agent's span is a run at all (`span_agents`).

Owns the table `run_rollups`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Dialect, func, select

from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.storage.rows import Row
from otel_agent_telemetry.storage.run_sums import READ, context_as_read, metrics_as_read, refresh_sqlite, write_changes
from otel_agent_telemetry.storage.statements import (
    Statement,
    compile_statement,
    driver_connection,
    insert_into,
    rows_with,
)
from otel_agent_telemetry.storage.steps import IS_RUN, loaded_usage, parent_start_among, usage_of_row
from otel_agent_telemetry.storage.tables import run_rollups, run_spans
from otel_agent_telemetry.usage import Usage, added, left_out, summed
from otel_agent_telemetry.wire import dumps_text

_ROLLUP_COLUMNS: Final = ("event_id", "parent_run_id", "usage_json")
_stored: Final = select(*(run_rollups.c[name] for name in _ROLLUP_COLUMNS))
_NONE: Final[Mapping[str, Any]] = MappingProxyType({})


class Agent(NamedTuple):
    """What an agent's span, or a run's own span, says of its agent (`span_agents`).

    `name`: what it calls its agent, None for nothing. `run_name`: the name that an agent inside
    repeats. `takes_child_name`: whether the run is called as the first agent inside it, which
    `adopted` is then.
    """

    name: str | None
    run_name: str
    takes_child_name: bool
    adopted: str | None = None


@dataclass(frozen=True, slots=True)
class Rollup:
    """What is known of a run from its spans: the run it is part of, and two usages.

    `own` is what the run's own span reports of the whole, `steps` the sum over its steps, `records` over its
    log records (`turns`). Of a run by an agent `agent` is what its span says; of one that can turn out to be a step
    of the run around it, `state` is its state, and `is_part` whether it has.
    """

    parent_run_id: str | None = None
    own: Usage = field(default_factory=dict)
    steps: Usage = field(default_factory=dict)
    records: Usage = field(default_factory=dict)
    agent: Agent | None = None
    state: dict[str, Any] | None = None
    is_part: bool = False

    def row(self, event_id: str) -> Row:
        """Return the values of `_ROLLUP_COLUMNS`."""
        members: dict[str, Any] = {"own": self.own, "steps": self.steps}
        if self.records:
            members["records"] = self.records
        if self.agent is not None:
            members["agent"] = list(self.agent)
        if self.state is not None:
            members["state"] = self.state
        if self.is_part:
            members["is_part"] = True
        return event_id, self.parent_run_id, dumps_text(members)


_NO_ROLLUP: Final = Rollup()


def add_to_rollups(
    connection: Connection,
    *,
    steps: Mapping[str, Sequence[Usage]] = _NONE,
    own: Mapping[str, Usage] = _NONE,
    records: Mapping[str, Usage] = _NONE,
    parents: Mapping[str, str] = _NONE,
    agents: Mapping[str, Agent] = _NONE,
    parts: Mapping[str, bool] = _NONE,
    states: Mapping[str, Mapping[str, Any]] = _NONE,
) -> None:
    """Add what is known of runs to their roll-ups; all by `event_id`.

    `steps`: the usage of steps, to be added. `own`, `records`, `parents`: the runs' own usage, that of all their
    log records, and the runs that they are inside of. `agents`, `parts`, `states`: their agents, whether they are
    steps, and their states.
    """
    changed = frozenset[str]().union(steps, own, records, parents, agents, parts, states)
    stored = rollups_of(connection, changed)
    rows = []
    for event_id in sorted(changed):  # one locking order: two writers never deadlock
        before = stored.get(event_id, _NO_ROLLUP)
        state = states.get(event_id, before.state)
        now = Rollup(
            parent_run_id=parents.get(event_id) or before.parent_run_id,
            own=own.get(event_id, before.own),
            steps=added([before.steps, *more]) if (more := steps.get(event_id)) else before.steps,
            records=records.get(event_id, before.records),
            agent=_known_agent(before.agent, agents.get(event_id, before.agent)),
            state=dict(state) if state is not None else None,
            is_part=parts.get(event_id, before.is_part),
        )
        if now != before:  # a repeated request writes nothing
            rows.append(now.row(event_id))
    _upsert_rollups(connection.dialect).execute(connection, _ROLLUP_COLUMNS, rows)
    refresh_sums(connection, [row[0] for row in rows])


def _known_agent(before: Agent | None, now: Agent | None) -> Agent | None:
    """Return what is known of a run's agent. A name taken from one inside it stays when its span comes again."""
    if before is None or now is None or now.adopted is not None:
        return now
    return now._replace(adopted=before.adopted)


def recount_rollups(connection: Connection, event_ids: Iterable[str], parents: Mapping[str, str | None]) -> None:
    """Sum the steps of these runs anew, and set parents again, None where none is known any more.

    For runs with model calls inside model calls, and for spans that have found another run,
    which happens only where span ids repeat.
    """
    recounted = set(event_ids)
    rows_of_run: defaultdict[str, list[Sequence[Any]]] = defaultdict(list)
    for event_id, *row in rows_with(connection, _counted, run_spans.c.event_id, recounted):
        rows_of_run[event_id].append(row)
    changed = recounted | parents.keys()
    stored = rollups_of(connection, changed)
    rows = []
    for event_id in sorted(changed):
        before = stored.get(event_id, Rollup())
        steps = _used_by_steps(rows_of_run[event_id]) if event_id in recounted else before.steps
        parent = parents.get(event_id) if event_id in parents else before.parent_run_id
        # Also a sum that is empty now: a row that stayed would go on counting steps that have left.
        rows.append(replace(before, parent_run_id=parent, steps=steps).row(event_id))
    _replace_rollups(connection.dialect).execute(connection, _ROLLUP_COLUMNS, rows)
    refresh_sums(connection, [row[0] for row in rows])


def refresh_sums(connection: Connection, event_ids: Iterable[str]) -> None:
    """Set the totals of those of these runs that have a roll-up and are stored (`run_sums`)."""
    wanted = sorted(event_ids)  # one locking order: two writers never deadlock
    if not wanted:
        return
    if connection.dialect.name == "sqlite":
        refresh_sqlite(driver_connection(connection), wanted)
        return
    # PostgreSQL takes an array as one parameter; SQLite has none, and its driver is called directly.
    selected = f"{READ} = ANY(%s) ORDER BY r.event_id"
    rows = connection.exec_driver_sql(selected, (wanted,)).all()
    write_changes(map(tuple, rows), connection.exec_driver_sql, "%s")


_counted: Final = select(
    *(run_spans.c.event_id, run_spans.c.span_id, run_spans.c.parent_span_id, run_spans.c.start_time),
    *(run_spans.c.parent_start, run_spans.c.usage_json),
).where(run_spans.c.is_run != IS_RUN)


def _used_by_steps(rows: Sequence[Sequence[Any]]) -> Usage:
    """Return what the steps of one run used, the same model calls once."""
    places: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for position, (span_id, _, start, *_) in enumerate(rows):
        places[span_id][start] = position
    steps = []
    for _, parent_id, child_start, parent_start, usage_json in rows:
        starts = places.get(parent_id, {})
        start = parent_start_among(starts, child_start=child_start, parent_start=parent_start)
        steps.append((usage_of_row(usage_json), -1 if start is None else starts[start]))
    return summed(steps)


def rollups_of(connection: Connection, event_ids: Iterable[str]) -> dict[str, Rollup]:
    """Return `event_id` → roll-up, for the runs that have one."""
    rollups = {}
    for event_id, parent_run_id, usage_json in rows_with(connection, _stored, run_rollups.c.event_id, event_ids):
        usage = loaded_usage(usage_json)
        agent = usage.get("agent")
        rollups[event_id] = Rollup(
            parent_run_id,
            usage.get("own", {}),
            usage.get("steps", {}),
            usage.get("records", {}),
            None if agent is None else Agent(*agent),
            usage.get("state"),
            usage.get("is_part", False),
        )
    return rollups


def with_rollup(record: RunRecord, rollup: Rollup | None) -> RunRecord:
    """Return the run as it is read: a figure in its own state goes before what its spans add up to."""
    if rollup is None:
        return record
    return replace(
        record,
        metrics_json=metrics_with(record.metrics_json, rollup),
        context_json=context_as_read(
            record.context_json, left_out(own=rollup.own, steps=rollup.steps, records=rollup.records)
        ),
        parent_run_id=record.parent_run_id or rollup.parent_run_id,
    )


def metrics_with(metrics_json: str | None, rollup: Rollup | None) -> str | None:
    """Return a run's metrics as they are read, with what its spans add up to."""
    if rollup is None:
        return metrics_json
    return metrics_as_read(metrics_json, own_usage=rollup.own, step_usage=rollup.steps, record_usage=rollup.records)


@lru_cache(maxsize=8)
def _replace_rollups(dialect: Dialect) -> Statement:
    """Return the statement that stores rollups, whatever was stored before."""
    statement = insert_into(run_rollups, dialect)
    changes = {name: statement.excluded[name] for name in ("parent_run_id", "usage_json")}
    upsert = statement.on_conflict_do_update(index_elements=["event_id"], set_=changes)
    return compile_statement(upsert, dialect, _ROLLUP_COLUMNS)


@lru_cache(maxsize=8)
def _upsert_rollups(dialect: Dialect) -> Statement:
    """Return the statement that stores rollups and keeps a known parent when the new one is unknown."""
    statement = insert_into(run_rollups, dialect)
    new = statement.excluded
    changes = {
        "parent_run_id": func.coalesce(new.parent_run_id, run_rollups.c.parent_run_id),
        "usage_json": new.usage_json,
    }
    upsert = statement.on_conflict_do_update(index_elements=["event_id"], set_=changes)
    return compile_statement(upsert, dialect, _ROLLUP_COLUMNS)
