"""From an OTLP logs request to what is stored of it: each log record as an event of a run, or of a turn.

A record of a known coding agent's session is part of a turn (`turn_records`). Of the others one of a run (by its
trace, or by the attribute `agent_run.id`) is an event of that run, named as `log_records` says, or `log` where it has
no name. Its attributes are the event's payload, its body the member `body`; what is message content is left out, and
counted in the member `dropped`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.content import rule_of
from otel_agent_telemetry.otel.content_choice import around_of
from otel_agent_telemetry.otel.log_records import LoggedEvent, read_logs
from otel_agent_telemetry.otel.received import Received
from otel_agent_telemetry.otel.turn_records import TurnReader
from otel_agent_telemetry.recording.active_runs import ResourceDefaults
from otel_agent_telemetry.redaction import clean, kept_name, kept_run_id
from otel_agent_telemetry.storage.run_logs import RunLog
from otel_agent_telemetry.storage.store import WriteBatch
from otel_agent_telemetry.turns import TurnRecord
from otel_agent_telemetry.wire import dumps_text

LogNode = RunLog | TurnRecord
_log = logging.getLogger(__name__)

RUN_ID: Final = "agent_run.id"
"""Attribute of a record, or its resource, that names a run."""
UNNAMED: Final = "log"
_JOURNAL_LINE: Final = "agent.telemetry.writer"
_MAX_NAME: Final = 255
_DIGITS: Final = 8
_POSITIVE: Final = 0x7FFFFFFF


class LogReader:
    """Reads logs requests by one configuration. Safe under threads.

    `around`: what is message content, and the bounds of values. `now_ns`: returns the time, for records without one.
    `silence_s`: seconds without a sign of life after which a turn is over.
    """

    def __init__(self, *, around: ResourceDefaults, now_ns: Callable[[], int], silence_s: float) -> None:
        self._turns = TurnReader(around=around, silence_s=silence_s)
        self._around = around
        self._now_ns = now_ns

    def read(self, request: ExportLogsServiceRequest) -> Received[LoggedEvent]:
        """Return the events of a request; none is refused."""
        return Received(attrgetter("time_ns"), list(read_logs(request)))

    def nodes_of(self, events: Sequence[LoggedEvent], received: Received[LoggedEvent]) -> list[LogNode]:
        """Return what is stored of these events; one that cannot be understood is refused, its neighbours are not."""
        nodes: list[LogNode] = []
        now_ns = self._now_ns()
        for event in events:
            # A collector passes lines of a journal on as log records: they reach a service by their own way.
            if _JOURNAL_LINE in event.attributes:
                continue
            try:
                nodes.append(self._turns.read(event, received_ns=now_ns) or self._node_of(event, now_ns))
            except Exception as problem:  # a bug of ours costs this record, not its neighbours
                _log.error("a log record cannot be understood: %s", type(problem).__name__, exc_info=problem)
                received.refuse("a log record cannot be understood")
        return nodes

    def batch_of(self, nodes: Sequence[LogNode]) -> WriteBatch:
        """Return what is to be written of some records."""
        return WriteBatch(
            logs=[node for node in nodes if isinstance(node, RunLog)],
            turn_records=[node for node in nodes if isinstance(node, TurnRecord)],
        )

    def name_of(self, node: LogNode) -> str:
        """Return what a message calls a record."""
        return f"log record {node.event_type if isinstance(node, RunLog) else node.name}"

    def _node_of(self, event: LoggedEvent, now_ns: int) -> RunLog:
        """Return a record as the event of a run."""
        name = kept_name((event.name or UNNAMED)[:_MAX_NAME])
        named = names.text_attribute(event.attributes, RUN_ID) or names.text_attribute(event.resource, RUN_ID) or ""
        has_run = bool(event.trace_id or named)
        return RunLog(
            sender=kept_name(event.sender[:_MAX_NAME]),
            trace_id=event.trace_id,
            span_id=event.span_id,
            run_id=kept_run_id(named),
            event_type=name,
            timestamp=iso_utc(event.time_ns or now_ns),
            time_ns=event.time_ns,
            number=-1 - (int(event.identity[:_DIGITS], 16) & _POSITIVE),
            # What is only counted is not looked at.
            payload_json=dumps_text(self._payload(event)) if has_run else "",
        )

    def _payload(self, event: LoggedEvent) -> Mapping[str, Any]:
        """Return what is kept of a record's attributes and body."""
        rule = rule_of(around_of(self._around, event.resource, event.attributes))
        kept, left_out = rule.keep_of_event(event.name, _members(event))
        payload = clean(dict(kept), max_bytes=self._around.max_bytes)
        return {**payload, "dropped": dict(left_out)} if left_out else payload


def _members(event: LoggedEvent) -> dict[str, Any]:
    """Return attributes and body of a record as one mapping; a body that is a map gives its members."""
    members = {key: value for key, value in event.attributes.items() if key != names.EVENT_NAME}
    if event.severity and not event.name:
        members = {"severity": event.severity, **members}
    if isinstance(event.body, Mapping):
        return {**event.body, **members}
    # A body that only repeats the name says nothing.
    return members if event.body is None or event.body == event.name else {"body": event.body, **members}
