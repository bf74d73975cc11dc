# ruff: noqa: S608 - names of our own columns
"""Keep in a run's row what the run and its spans add up to, so that SQL reads the same on every route.

A run that was recorded live holds its sums in its own state. For one that came over OTLP they
are in its roll-up (`steps`), and a state must not carry them: it would win or lose by what had
arrived before it. So after each write of a state or a roll-up the columns of
`columns.TOTAL_COLUMNS`, which are no part of the order of states, are made from both, and the
roll-up keeps `metrics_json` as the run is read; the view `run_totals` shows it.

Needs no SQLAlchemy on SQLite, because a recording process writes rows too.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from otel_agent_telemetry.columns import TOTAL_COLUMNS
from otel_agent_telemetry.run_totals import totals_in
from otel_agent_telemetry.usage import LEFT_OUT_KEY, NO_USAGE, USAGE_KEY, Usage, shown_usage
from otel_agent_telemetry.wire import dumps_text, load_object

_DEFAULTS: Final = tuple(0 if name.endswith(("_tokens", "_calls")) else None for name in TOTAL_COLUMNS)
_STORED: Final = ", ".join(f"a.{name}" for name in TOTAL_COLUMNS)
_CHANGES: Final = ", ".join(f"{name} = {{}}" for name in TOTAL_COLUMNS)
READ: Final = (
    f"SELECT a.event_id, a.metrics_json, r.usage_json, r.metrics_json, {_STORED} "
    "FROM run_rollups r JOIN agent_runs a ON a.event_id = r.event_id WHERE r.event_id"
)
"""Ends in the condition on the `event_id`."""
SET_TOTALS: Final = f"UPDATE agent_runs SET {_CHANGES} WHERE event_id = {{}}"
SET_METRICS: Final = "UPDATE run_rollups SET metrics_json = {} WHERE event_id = {}"
"""With a `{}` for each parameter."""

Row = tuple[Any, ...]


def metrics_as_read(
    own: str | None, *, own_usage: Usage, step_usage: Usage, record_usage: Usage = NO_USAGE
) -> str | None:
    """Return `metrics_json` as a run is read: a number in its own state goes before what its spans add up to."""
    if not own_usage and not step_usage and not record_usage:
        return own
    shown = shown_usage(own=own_usage, steps=step_usage, records=record_usage)
    metrics = load_object(own or "{}")
    if shown and metrics is not None and isinstance(known := metrics.get(USAGE_KEY, {}), dict):
        return dumps_text({**metrics, USAGE_KEY: {**shown, **known}})
    return own


def context_as_read(own: str | None, left_out: Mapping[str, int]) -> str | None:
    """Return `context_json` as a run is read: with the counts of what was left out of its spans, if it has none."""
    context = load_object(own or "{}")
    if not left_out or context is None or LEFT_OUT_KEY in context:
        return own
    return dumps_text({**context, LEFT_OUT_KEY: left_out})


def changes_of(rows: Iterable[Row]) -> tuple[list[Row], list[Row]]:
    """Return the parameters of SET_TOTALS and of SET_METRICS for the rows of READ that are not right yet."""
    totals, metrics = [], []
    for event_id, own, usage_json, as_read, *stored in rows:
        usage = load_object(usage_json) or {}
        now = metrics_as_read(
            own,
            own_usage=usage.get("own", {}),
            step_usage=usage.get("steps", {}),
            record_usage=usage.get("records", NO_USAGE),
        )
        found = totals_in(now)
        values = tuple(map(found.get, TOTAL_COLUMNS, _DEFAULTS))
        # Compared first: an update that changes nothing would still write the row and its indexes.
        if values != tuple(stored):
            totals.append((*values, event_id))
        if now != as_read:
            metrics.append((now, event_id))
    return totals, metrics


def refresh_sqlite(connection: sqlite3.Connection, event_ids: Iterable[str]) -> None:
    """Set the sums of those of these runs that have a roll-up, within the connection's transaction."""
    # A file that no service has written has no roll-ups: one step, and nothing else to do.
    if connection.execute("SELECT 1 FROM run_rollups LIMIT 1").fetchone() is None:
        return
    keys = json.dumps(list(event_ids))
    rows = connection.execute(f"{READ} IN (SELECT value FROM json_each(?))", (keys,)).fetchall()
    write_changes(rows, connection.executemany, "?")


def write_changes(rows: Iterable[Row], execute: Callable[[str, list[Row]], Any], place: str) -> None:
    """Write what `changes_of` finds; `place` is the driver's placeholder."""
    totals, metrics = changes_of(rows)
    if totals:
        execute(SET_TOTALS.format(*[place] * (len(TOTAL_COLUMNS) + 1)), totals)
    if metrics:
        execute(SET_METRICS.format(place, place), metrics)
