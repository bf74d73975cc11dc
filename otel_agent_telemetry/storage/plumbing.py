"""Mark root spans of agents' programs that do no agent's work: the column `plumbing`.

A root span without a model call, a tool call, an event or a mark of its own is *idle*: a received
span says so in `SpanNode.is_idle`, the state of a run that a process recorded in `span_work`. It is
plumbing in a service that agents' runs come from, whichever is first; no longer when a call or a
run inside it arrives. A plain user's roots, in a service without agents, are not.

Owns the table `run_services`; idle runs stand in `run_keys`, by their service. Imports no
SQLAlchemy, because a recording process writes rows too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.run_id import span_event_id
from otel_agent_telemetry.storage.plain_sql import PlainSql
from otel_agent_telemetry.storage.rows import clean_text
from otel_agent_telemetry.wire import AGENT_WORK, NO_WORK, NO_WORK_OF_AGENT, SPAN_WORK

if TYPE_CHECKING:
    from otel_agent_telemetry.storage.traces import SpanNode

_LAST_CHARACTER: Final = "\U0010ffff"
_CALLS: Final = '"model_calls":'
_DOES_NOTHING: Final = (
    "(model_calls = 0 AND tool_calls = 0 "
    "AND NOT EXISTS (SELECT 1 FROM run_rollups AS r WHERE r.parent_run_id = agent_runs.run_id) "
    "AND NOT EXISTS (SELECT 1 FROM agent_runs AS r WHERE r.parent_run_id = agent_runs.run_id))"
)
_DECIDED: Final = f"CASE WHEN {_DOES_NOTHING} THEN 1 ELSE 0 END"
_WRONG: Final = f"SELECT event_id FROM agent_runs WHERE event_id IN {{}} AND plumbing <> {_DECIDED}"  # noqa: S608
_DECIDE: Final = f"UPDATE agent_runs SET plumbing = {_DECIDED} WHERE event_id = {{}}"  # noqa: S608
_KEEP_KEY: Final = "INSERT INTO run_keys (run_key, event_id) VALUES ({}, {}) ON CONFLICT DO NOTHING"
_KEEP_SERVICE: Final = "INSERT INTO run_services (service_name) VALUES ({}) ON CONFLICT DO NOTHING"
_KNOWN: Final = "SELECT service_name FROM run_services WHERE service_name IN {}"
_KEPT_KEYS: Final = "SELECT event_id FROM run_keys WHERE run_key BETWEEN {} AND {}"
_ANY_MARKED: Final = "SELECT 1 FROM agent_runs WHERE plumbing = 1 LIMIT 1"
_MARKED_IN: Final = "SELECT event_id FROM agent_runs WHERE plumbing = 1 AND trace_id IN {}"
_MARKED_NAMED: Final = "SELECT event_id FROM agent_runs WHERE plumbing = 1 AND run_id IN {}"


class Signs:
    """What states and spans that are being written say of plumbing.

    `idle`: `event_id` → service of idle runs. `agents`: services that agents' runs come from.
    `traces`, `parents`: trace ids and run ids of runs that may not be idle any more.
    """

    __slots__ = ("agents", "idle", "parents", "traces")

    def __init__(self) -> None:
        self.idle: dict[str, str | None] = {}
        self.agents: set[str] = set()
        self.traces: set[str] = set()
        self.parents: set[str] = set()

    def note_states(self, states: Iterable[Fields]) -> None:
        """Note what states say."""
        for state in states:
            work, service = state.get(SPAN_WORK), state.get("service_name")
            if work in (NO_WORK, NO_WORK_OF_AGENT):
                self.idle[state["event_id"]] = service
            if service and (work in (AGENT_WORK, NO_WORK_OF_AGENT) or _CALLS in (state.get("metrics_json") or "")):
                self.agents.add(service)
            if parent := state.get("parent_run_id"):
                self.parents.add(parent)

    def note_nodes(self, nodes: Sequence[SpanNode], known_runs: Mapping[tuple[str, str], str]) -> None:
        """Note what received spans say.

        `known_runs`: ids of spans for which runs were made before they came (`silence`) → `event_id`.
        """
        for node in nodes:
            if node.is_idle:
                self.idle[known_runs.get(node.key) or span_event_id(*node.identity)] = node.service
            if node.is_from_agent and node.service:
                self.agents.add(node.service)
            self.traces.add(node.span.trace_id)


def mark_plumbing(sql: PlainSql, signs: Signs) -> None:
    """Set and take back marks for what was just written, within its transaction. Raises the driver's errors."""
    _remember(sql, signs.idle)
    services = signs.agents | set(filter(None, signs.idle.values()))
    known = _known(sql, services)
    changed = {event_id for event_id, service in signs.idle.items() if service in known | signs.agents}
    # Sorted: two transactions that meet the same new services insert them in one order and do not deadlock.
    for service in sorted(signs.agents - known):
        sql.write(_KEEP_SERVICE, [(clean_text(service),)])
        changed |= _idle_of(sql, service)
    _decide(sql, changed | _marked(sql, signs))


def mark_silent(sql: PlainSql, services: dict[str, str | None]) -> None:
    """Mark runs made of spans whose root never came, `event_id` → service, where they are an agents' service's."""
    _remember(sql, services)
    known = _known(sql, {service for service in services.values() if service})
    _decide(sql, {event_id for event_id, service in services.items() if service in known})


def _remember(sql: PlainSql, idle: dict[str, str | None]) -> None:
    """Keep idle runs under their services, for the day on which a service turns out to be an agent's."""
    keys = ((clean_text(f"{_prefix(service)}{event_id}"), event_id) for event_id, service in idle.items() if service)
    sql.write(_KEEP_KEY, sorted(keys))


def _prefix(service: str) -> str:
    """Return how the keys of the idle runs of a service begin."""
    return f"idle:{service}:"


def _known(sql: PlainSql, services: Iterable[str]) -> set[str]:
    """Return those of the services that agents' runs have come from."""
    wanted = [clean_text(service) for service in services]
    return {str(service) for (service,) in sql.rows(_KNOWN, wanted)} if wanted else set()


def _idle_of(sql: PlainSql, service: str) -> set[str]:
    """Return the idle runs of a service: read once, when its first agent's run arrives."""
    prefix = clean_text(_prefix(service))
    return {event_id for (event_id,) in sql.rows(_KEPT_KEYS, prefix, prefix + _LAST_CHARACTER)}


def _marked(sql: PlainSql, signs: Signs) -> set[str]:
    """Return the marked runs that may not be idle any more: of these traces, and with runs inside them."""
    if not (signs.traces or signs.parents) or not sql.rows(_ANY_MARKED):
        return set()
    found = sql.rows(_MARKED_IN, sorted(signs.traces)) if signs.traces else []
    found += sql.rows(_MARKED_NAMED, sorted(map(clean_text, signs.parents))) if signs.parents else []
    return {event_id for (event_id,) in found}


def _decide(sql: PlainSql, event_ids: set[str]) -> None:
    """Set the mark of those of these runs for which it is wrong, in one order of locking."""
    if event_ids:
        sql.write(_DECIDE, sorted(sql.rows(_WRONG, sorted(event_ids))))
