"""Mark root spans of agents' programs that do no agent's work: the column `plumbing`.

A root span that came over OTLP without a model call, a tool call, an event or a mark of its own
is *idle* (`SpanNode.is_idle`). It is plumbing in a service that agents' runs come from, whichever
is first; no longer when a call or a run inside it arrives. A plain user's roots, in a service
without agents, are not. Runs that were recorded live are not looked at.

Owns the table `run_services`; idle runs stand in `run_keys`, by their service.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, and_, case, exists, literal, select, update

from otel_agent_telemetry.storage.rows import clean_text
from otel_agent_telemetry.storage.statements import insert_into, rows_with
from otel_agent_telemetry.storage.tables import agent_runs, run_keys, run_rollups, run_services

if TYPE_CHECKING:
    from otel_agent_telemetry.storage.traces import SpanNode

_LAST_CHARACTER: Final = "\U0010ffff"
_runs: Final = agent_runs.c
_has_run_inside: Final = exists().where(run_rollups.c.parent_run_id == _runs.run_id)
_does_nothing: Final = and_(_runs.model_calls == 0, _runs.tool_calls == 0, ~_has_run_inside)
_decide: Final = update(agent_runs).values(plumbing=case((_does_nothing, literal(1)), else_=literal(0)))
_wanted: Final = select(_runs.event_id).where(_runs.plumbing != case((_does_nothing, literal(1)), else_=literal(0)))


def mark_plumbing(connection: Connection, nodes: Sequence[SpanNode], idle_runs: Collection[str]) -> None:
    """Set and take back marks for what spans that were just written mean; `idle_runs` by `event_id`, of `nodes`."""
    idle = {event_id: node.service for event_id, node in zip(idle_runs, nodes, strict=True) if node.is_idle}
    _remember(connection, idle)
    from_agents = {node.service for node in nodes if node.is_from_agent and node.service}
    services = from_agents | {service for service in idle.values() if service}
    known = _known(connection, services)
    changed = {event_id for event_id, service in idle.items() if service in known | from_agents}
    for service in sorted(from_agents - known):
        connection.execute(
            insert_into(run_services, connection.dialect).on_conflict_do_nothing(),
            {"service_name": clean_text(service)},
        )
        changed |= _idle_of(connection, service)
    _set(connection, changed | _marked_in(connection, {node.span.trace_id for node in nodes}))


def mark_silent(connection: Connection, services: dict[str, str | None]) -> None:
    """Mark runs made of spans whose root never came, `event_id` → service, where they are an agents' service's."""
    _remember(connection, services)
    known = _known(connection, {service for service in services.values() if service})
    _set(connection, {event_id for event_id, service in services.items() if service in known})


def _remember(connection: Connection, idle: dict[str, str | None]) -> None:
    rows = [
        {"run_key": clean_text(f"{_prefix(service)}{event_id}"), "event_id": event_id}
        for event_id, service in sorted(idle.items())
        if service
    ]
    if rows:
        connection.execute(insert_into(run_keys, connection.dialect).on_conflict_do_nothing(), rows)


def _prefix(service: str) -> str:
    return f"idle:{service}:"


def _known(connection: Connection, services: Iterable[str]) -> set[str]:
    selected = select(run_services.c.service_name)
    return {str(row[0]) for row in rows_with(connection, selected, run_services.c.service_name, services)}


def _idle_of(connection: Connection, service: str) -> set[str]:
    """Return the idle runs of a service: read once, when its first agent's run arrives."""
    prefix = clean_text(_prefix(service))
    selected = select(run_keys.c.event_id).where(run_keys.c.run_key.between(prefix, prefix + _LAST_CHARACTER))
    return set(connection.execute(selected).scalars())


def _marked_in(connection: Connection, traces: Iterable[str]) -> set[str]:
    """Return the runs of these traces that are marked."""
    selected = select(_runs.event_id).where(_runs.plumbing == 1, _runs.trace_id.is_not(None))
    return {row[0] for row in rows_with(connection, selected, _runs.trace_id, traces)}


def _set(connection: Connection, event_ids: set[str]) -> None:
    if not event_ids:
        return
    wrong = sorted(row[0] for row in rows_with(connection, _wanted, _runs.event_id, event_ids))
    for event_id in wrong:
        connection.execute(_decide.where(_runs.event_id == event_id))
