"""The status of runs whose sender leaves it to the last model call, once their spans are stored.

Such a run's root span says nothing of how it ended; its model calls may arrive before it, with
it and after it. So after each write of spans the runs concerned get a later state where the
last call that is known now says another status than the row has; an agent's prompt without any has failed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy import Connection, select

from otel_agent_telemetry import status as st
from otel_agent_telemetry.clock import iso_utc, parse_iso
from otel_agent_telemetry.columns import STATE_STEP_NS, Fields
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.storage.queries import own_states
from otel_agent_telemetry.storage.rollups import Rollup, rollups_of
from otel_agent_telemetry.storage.runs import upsert_runs
from otel_agent_telemetry.storage.statements import rows_with
from otel_agent_telemetry.storage.steps import NO_RUN
from otel_agent_telemetry.storage.tables import run_spans
from otel_agent_telemetry.storage.traces import SpanNode
from otel_agent_telemetry.turns import SILENT
from otel_agent_telemetry.usage import LAST_CALL, LAST_CALL_DECIDES, added, failure_of_last_call


def decide_statuses(connection: Connection, nodes: Sequence[SpanNode], states: Iterable[Fields]) -> None:
    """Write a later state of each run whose last model call says another status than its row has.

    `states`: those that were written with the spans; a run without any other span is found by them alone. Within the
    connection's transaction, after the spans and states have been written. Any span of such a sender may be the one
    that was missing between a call and its run.
    """
    traces = {node.span.trace_id for node in nodes if node.last_call_decides}
    event_ids = {event_id for (event_id,) in rows_with(connection, _runs_of_spans, run_spans.c.trace_id, traces)}
    event_ids |= {state["event_id"] for state in states}
    decide_runs(connection, event_ids - {NO_RUN})


def decide_runs(connection: Connection, event_ids: Iterable[str]) -> None:
    """Do the same for these runs, whose last model call may be that of a log record."""
    decided = {
        event_id: rollup
        for event_id, rollup in rollups_of(connection, event_ids).items()
        if LAST_CALL_DECIDES in rollup.own
        and (rollup.agent is not None or LAST_CALL in rollup.steps or LAST_CALL in rollup.records)
    }
    if later := list(_later_states(connection, decided)):
        upsert_runs(connection, later)


_runs_of_spans: Final = select(run_spans.c.event_id).distinct()


def _later_states(connection: Connection, decided: dict[str, Rollup]) -> Iterator[RunRecord]:
    """Yield the later states: an end that another one has decided, such as `cancelled`, is left alone."""
    for run in own_states(connection, decided) if decided else ():
        rollup = decided[run.event_id]
        used = added([rollup.steps, rollup.records])
        # An agent that was killed before its model answered ends its span as if nothing had been the matter.
        failure = failure_of_last_call(used) if LAST_CALL in used else SILENT
        status: st.RunStatus = "success" if failure is None else "failed"
        # A status that the last call cannot mean was given by the run itself or by an operator.
        if run.status in (st.SUCCESS, st.FAILED) and (run.status, run.error_summary) != (status, failure):
            updated_at = iso_utc(parse_iso(run.updated_at) + STATE_STEP_NS)
            yield replace(run, status=status, error_summary=failure, updated_at=updated_at)
