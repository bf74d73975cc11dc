"""Runs that were known before their own span: what arrives later under its ids joins them, or dissolves them.

`run_keys` maps the ids of such a span to the run, see `silence` and `turn_traces`. A state or span with these ids that
arrives later is that run's (contract 11); a span that turns out to be no run dissolves it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from sqlalchemy import Connection, bindparam, delete, select, update

from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.missing_root import REASON
from otel_agent_telemetry.run_id import is_derived
from otel_agent_telemetry.status import FAILED
from otel_agent_telemetry.storage.journal_lines import join_lines
from otel_agent_telemetry.storage.span_places import Key
from otel_agent_telemetry.storage.statements import has_rows, rows_with
from otel_agent_telemetry.storage.steps import NO_RUN
from otel_agent_telemetry.storage.tables import agent_runs, run_events, run_keys, run_rollups, run_spans

_spans: Final = run_spans.c
_event_ids: Final = select(run_keys.c.run_key, run_keys.c.event_id)


def span_key(trace_id: str, span_id: str) -> str:
    """Return the key of `run_keys` for a span's ids."""
    return f"span:{trace_id}:{span_id}"


def known_keys(connection: Connection, keys: Iterable[Key]) -> dict[Key, str]:
    """Return `(trace id, span id)` → `event_id` of the runs that were made for spans with these ids."""
    # The usual case: nothing was ever silent, and one look in an index says so.
    if not has_rows(connection, run_keys):
        return {}
    wanted = {span_key(*key): key for key in keys}
    rows = rows_with(connection, _event_ids, run_keys.c.run_key, wanted)
    return {wanted[run_key]: event_id for run_key, event_id in rows}


def joined(connection: Connection, states: Sequence[Fields], known: Mapping[Key, str]) -> list[Fields]:
    """Return the states with the `event_id` of the runs that were made for their spans, which take their run ids.

    What was made up for such a run gives way to any state of its own.
    """
    changed = []
    for state in states:
        event_id = known.get((state.get("trace_id") or "", state.get("span_id") or ""))
        # A state whose id is not made from its span has no steps: it must not take those of the span.
        if event_id is not None and is_derived(state["event_id"]):
            rename_run(connection, event_id, state["run_id"])
            forget_made_up(connection, event_id)
            join_lines(connection, state["event_id"], event_id)
            state = {**state, "event_id": event_id}  # noqa: PLW2901 - the state under its run's id
        changed.append(state)
    return changed


def rename_run(connection: Connection, event_id: str, run_id: str) -> None:
    """Let what belongs to a run name it by its new run id; the run's own row is left as it is."""
    before = connection.execute(select(agent_runs.c.run_id).where(agent_runs.c.event_id == event_id)).scalar()
    if before is None or before == run_id:
        return
    for table in (run_spans, run_events):
        connection.execute(update(table).where(table.c.event_id == event_id).values(run_id=run_id))
    for parents in (run_rollups, agent_runs):
        connection.execute(update(parents).where(parents.c.parent_run_id == before).values(parent_run_id=run_id))


_forget_key: Final = delete(run_keys).where(run_keys.c.event_id == bindparam("of_run"))
_forget_run: Final = delete(agent_runs).where(agent_runs.c.event_id == bindparam("of_run"))
_forget_made_up: Final = _forget_run.where(agent_runs.c.status == FAILED, agent_runs.c.error_summary.startswith(REASON))
_forget_sums: Final = delete(run_rollups).where(run_rollups.c.event_id == bindparam("of_run"))
_let_wait: Final = update(run_spans).where(_spans.event_id == bindparam("of_run")).values(event_id=NO_RUN, run_id="")
_let_events_wait: Final = (
    update(run_events).where(run_events.c.event_id == bindparam("of_run")).values(event_id=NO_RUN, run_id="")
)


def forget_made_up(connection: Connection, event_id: str) -> None:
    """Delete the row of a run that was made because its own span was missing."""
    connection.execute(_forget_made_up, {"of_run": event_id})


def dissolve(connection: Connection, event_ids: Iterable[str]) -> None:
    """Take back runs that were made for spans which turn out to be steps; what belonged to them waits again."""
    for event_id in event_ids:
        for statement in (_forget_key, _forget_run, _forget_sums, _let_wait, _let_events_wait):
            connection.execute(statement, {"of_run": event_id})
