"""What a run's own span says of the work it does, from which the database decides what is plumbing.

Agents' programs trace roots of their own that no user asked for (`sql.execute`, `auth`): with
`wire.NO_WORK` they are hidden from the list of runs where `wire.AGENT_WORK` has shown that their
service is an agent's (`storage.plumbing`). Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson
from opentelemetry.sdk.resources import Resource

from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.mapping import is_agents_doing
from otel_agent_telemetry.otel.spans import SpanView, resource_of
from otel_agent_telemetry.otel.usage import call_kind
from otel_agent_telemetry.recording.active_runs import ActiveRun
from otel_agent_telemetry.run_id import span_event_id
from otel_agent_telemetry.wire import AGENT_WORK, NO_WORK, NO_WORK_OF_AGENT, SPAN_WORK, encode_members

_OF_AGENT: Final = b"," + encode_members({SPAN_WORK: AGENT_WORK})


class SenderOfResource(NamedTuple):
    """What a resource says of its sender: whether it is a coding agent, and whether it may have rules of its own."""

    resource: object
    is_coding_agent: bool
    has_rules: bool

    @classmethod
    def of(cls, resource: Resource) -> SenderOfResource:
        """Return what a resource says."""
        given = resource_of(resource)
        return cls(resource, is_of_coding_agent(given), names.marks_sender(given))


def span_work_of(view: SpanView, *, has_events: bool) -> str | None:
    """Return the `wire.SPAN_WORK` of a run's span; None where it does what a user may have asked for."""
    if is_agents_doing(view):
        return AGENT_WORK
    is_agents = is_of_coding_agent(view.resource)
    if not is_idle(view, has_events=has_events and not is_agents):  # events of a coding agent are its log
        return AGENT_WORK if is_agents else None
    return NO_WORK_OF_AGENT if is_agents else NO_WORK


def is_idle(view: SpanView, *, has_events: bool) -> bool:
    """Return whether a span is a root that by itself does nothing that a user asks an agent for."""
    if view.parent_span_id is not None or has_events or call_kind(view.attributes, view.name) is not None:
        return False
    return not any(key.startswith(names.PREFIX) and not _is_given_by_us(key, view) for key in view.attributes)


def is_of_coding_agent(resource: Mapping[str, Any]) -> bool:
    """Return whether a resource is that of a known coding agent."""
    sender = names.sender_of(names.NONE, resource)
    return sender is not None and sender.is_coding_agent


def _is_given_by_us(key: str, view: SpanView) -> bool:
    """Return whether an attribute is the generated run id that live recording sets on each run's span."""
    if key != names.RUN_ID:
        return False
    return str(view.attributes[key]).endswith(f"-{span_event_id(view.trace_id, view.span_id, view.start_ns)[:8]}")


def last_members(run: ActiveRun, commit: str | None) -> bytes:
    """Return the members that stand behind the columns of a plan, each with its comma."""
    members = b""
    if run.parent_run_id is not None and run.parent_run_id != run.run_id:
        members = b',"parent_run_id":%b' % orjson.dumps(run.parent_run_id)
    if commit:
        members += b',"start_commit":%b' % orjson.dumps(commit)
    return members + _OF_AGENT if run.is_agent else members
