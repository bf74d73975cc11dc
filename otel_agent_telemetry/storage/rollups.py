"""What a run's steps add up to: kept beside the run's own state, joined to it when it is read.

`run_rollups` holds two usages (`usage`) for each run, as JSON: `own`, what the run's own span
says of the whole, and `steps`, the sum over its steps.

Roll-ups stand outside the order of states (`model.order_key`): a state never carries them,
so no state can win or lose by what happened to have arrived before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Dialect, func, select

from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.storage.key_lookup import in_parts
from otel_agent_telemetry.storage.run_statements import Statement, compiled, insert_into
from otel_agent_telemetry.storage.tables import run_rollups
from otel_agent_telemetry.usage import USAGE_KEY, Usage, added, shown_usage
from otel_agent_telemetry.wire import dumps_text

_COLUMNS: Final = ("event_id", "parent_run_id", "usage_json")


@dataclass(frozen=True, slots=True)
class Rollup:
    """What is known of a run from spans: the run around it, and what was used."""

    parent_run_id: str | None = None
    own: Usage = field(default_factory=dict)
    steps: Usage = field(default_factory=dict)

    def shown(self) -> dict[str, Any]:
        """The usage as a reader sees it."""
        return shown_usage(own=self.own, steps=self.steps)


def add_to_rollups(
    connection: Connection,
    *,
    steps: Mapping[str, Sequence[Usage]],
    own: Mapping[str, Usage],
    parents: Mapping[str, str],
) -> None:
    """Add steps to runs, set what runs say of themselves and which run is around them; all by `event_id`."""
    changed = steps.keys() | parents.keys() | {event_id for event_id, usage in own.items() if usage}
    if not changed:
        return
    known = rollups_of(connection, changed)
    rows = []
    for event_id in sorted(changed):
        before = known.get(event_id, Rollup())
        now = Rollup(
            parents.get(event_id) or before.parent_run_id,
            own.get(event_id) or before.own,
            added([before.steps, *steps.get(event_id, ())]),
        )
        if now != before:
            rows.append((event_id, now.parent_run_id, dumps_text({"own": now.own, "steps": now.steps})))
    _statement(connection.dialect).execute(connection, _COLUMNS, rows)


def rollups_of(connection: Connection, event_ids: Iterable[str]) -> dict[str, Rollup]:
    """`event_id` → roll-up, for the runs that have one."""
    found = {}
    for part in in_parts(event_ids):
        chosen = select(run_rollups).where(run_rollups.c.event_id.in_(part))
        for event_id, parent_run_id, usage_json in connection.execute(chosen):
            usage = loaded_usage(usage_json)
            found[event_id] = Rollup(parent_run_id, usage.get("own", {}), usage.get("steps", {}))
    return found


def with_rollup(record: RunRecord, rollup: Rollup | None) -> RunRecord:
    """The run as it is read: each figure that its own state says counts before what its spans add up to."""
    if rollup is None:
        return record
    shown, metrics = rollup.shown(), record.metrics_json
    own = _object_of(metrics or "{}")
    if shown and own is not None and isinstance(said := own.get(USAGE_KEY, {}), dict):
        metrics = dumps_text({**own, USAGE_KEY: {**shown, **said}})
    return replace(record, metrics_json=metrics, parent_run_id=record.parent_run_id or rollup.parent_run_id)


def loaded_usage(text: str | None) -> dict[str, Any]:
    """The usage that a column holds; an empty one when it holds none."""
    return _object_of(text or "{}") or {}


def _object_of(text: str) -> dict[str, Any] | None:
    try:
        value = orjson.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


@lru_cache(maxsize=8)
def _statement(dialect: Dialect) -> Statement:
    statement = insert_into(run_rollups, dialect)
    new = statement.excluded
    changes = {
        "parent_run_id": func.coalesce(new.parent_run_id, run_rollups.c.parent_run_id),
        "usage_json": new.usage_json,
    }
    return compiled(statement.on_conflict_do_update(index_elements=["event_id"], set_=changes), dialect, _COLUMNS)
