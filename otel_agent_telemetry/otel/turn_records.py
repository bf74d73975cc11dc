"""From a log record of a coding agent to what it says of its turn. Pure.

The rows of `conventions.log_words` say what the events of an agent mean. A record of a call is read as the span
that would describe the same call, so that tokens, models, costs and errors follow the rules that hold for spans,
with those of the agent's `Sender`.

The ids of a session or a prompt are anybody's text: what is distinguished by them is so by a digest, and what is
stored of them is masked like everything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.model import RunSpan
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.content import rule_of
from otel_agent_telemetry.otel.content_choice import around_of
from otel_agent_telemetry.otel.conventions.log_senders import role_in, words_of
from otel_agent_telemetry.otel.conventions.log_words import LogWords
from otel_agent_telemetry.otel.ended_spans import step_members
from otel_agent_telemetry.otel.log_records import LoggedEvent
from otel_agent_telemetry.otel.mapping import Overrides, run_columns, service_of
from otel_agent_telemetry.otel.spans import SpanView, run_of_resource
from otel_agent_telemetry.otel.usage import error_of, usage_of_step
from otel_agent_telemetry.recording.active_runs import ResourceDefaults
from otel_agent_telemetry.redaction import clean, kept_name
from otel_agent_telemetry.run_id import turn_event_id
from otel_agent_telemetry.run_state import checked_state
from otel_agent_telemetry.turns import UNKNOWN, Role, TurnRecord
from otel_agent_telemetry.usage import (
    BY_MODEL,
    CHILD_ERRORS,
    LAST_CALL,
    LEFT_OUT,
    REJECTED_TOOLS,
    TOOL_DECISIONS,
    Usage,
    last_call,
)
from otel_agent_telemetry.wire import load_object

_DIGEST: Final = 16
_NS: Final = 1_000_000_000
_HOST: Final = "host.name"
_OF_RECORD: Final = "event."
_OF_EVENT: Final = (names.EVENT_NAME, "event.timestamp")
_ANY_RUN: Final = {"event_id": turn_event_id("", ""), "run_id": "-", "start_time": iso_utc(0)}
"""What a base lacks to be the state of a run."""
_OPERATIONS: Final[Mapping[Role, str]] = {
    **dict.fromkeys(("model_call", "model_error", "model_gave_up"), "chat"),
    "tool_call": "execute_tool",
}
"""What a record means → the operation of the span that would describe the same."""
_FAILURES: Final = frozenset({"model_error", "model_gave_up"})
_STEPS: Final = frozenset({"model_call", "model_error", "tool_call"})
_MODEL: Final = "gen_ai.request.model"
_TOOL: Final = "gen_ai.tool.name"
_LEAST_ERROR: Final = 400
_SPAN_ID: Final = 16
_NS_IN_MS: Final = 1_000_000
_MAX_MS: Final = 86_400_000
"""A day: what says that it took longer is no duration."""


class TurnReader:
    """Reads the records of known agents by one configuration. Safe under threads.

    `silence_s`: seconds without a sign of life after which a turn is over.
    """

    def __init__(self, *, around: ResourceDefaults, silence_s: float) -> None:
        self._around = around
        self._silence_ns = int(silence_s * _NS)

    def read(self, event: LoggedEvent, *, received_ns: int) -> TurnRecord | None:
        """Return what a record says; None for one that is not of a known agent, or names neither session nor trace."""
        words = words_of(event.sender, event.scope, event.name)
        if words is None:
            return None
        session = _id_in(words.sessions, event.attributes) or _id_in(words.sessions, event.resource)
        if not session and not event.trace_id:
            return None
        attributes = event.attributes
        # Two hosts may send the same session, of a folder that was copied: their prompts follow one another on each.
        stretch = _digest(words.agent, str(event.resource.get(_HOST) or ""), session or f"trace:{event.trace_id}")
        role = role_in(words, event.name, attributes, is_failure=_is_failure(words, attributes))
        given = _id_in(words.prompts, attributes)
        prompt = given and _digest(given)
        sequence = _number(attributes.get(words.sequence), UNKNOWN)
        # A number of its own distinguishes a record also where a collector on one of two ways has added to it.
        itself = event.identity if sequence == UNKNOWN else f"{event.name} {event.time_ns} {sequence}"
        identity = _digest(stretch, prompt, itself)
        time_ns = event.time_ns or received_ns
        around = around_of(self._around, event.resource, attributes, agent_name=words.agent)
        # Each event would repeat its own name and time, and its run's ids.
        repeated = {*_OF_EVENT, *words.sessions, *words.prompts}
        own = {name: value for name, value in attributes.items() if name not in repeated}
        kept, left_out = rule_of(around).keep(own)
        usage = _usage_of(words, role, attributes, time_ns)
        return TurnRecord(
            identity=identity,
            stretch=stretch,
            prompt=prompt,
            own_turn=_own_turn(words, role, stretch, prompt, identity),
            role=role,
            name=kept_name(event.name or "event"),
            time_ns=time_ns,
            sequence=sequence,
            # A clock that is ahead must not keep a turn open: it is silent by our clock then.
            silent_ns=min(time_ns, received_ns) + self._silence_ns,
            trace_id=event.trace_id,
            span_id=event.span_id,
            span_is_run=words.span_is_run,
            usage={**usage, LEFT_OUT: dict(left_out)} if left_out else usage,
            step=self._step_of(words, role, attributes, stretch=stretch, identity=identity, time_ns=time_ns),
            payload=clean(dict(kept), max_bytes=self._around.max_bytes),
            base=self._base_of(event, words, session, is_begin=role == "begins"),
        )

    def _step_of(
        self, words: LogWords, role: Role, attributes: Mapping[str, Any], *, stretch: str, identity: str, time_ns: int
    ) -> RunSpan | None:
        """Return the call that a record reports, as the step that it is without a span; None where it reports none."""
        if role not in _STEPS:
            return None
        view = _call_of(words, role, attributes, time_ns)
        took = next((ms for name in words.durations if (ms := _number(attributes.get(name), 0))), 0)
        called = _first_text((_TOOL if role == "tool_call" else _MODEL,), view.attributes)
        view = view._replace(
            name=f"{_OPERATIONS[role]} {called}".strip(),
            trace_id=stretch,
            span_id=identity[:_SPAN_ID],
            start_ns=max(time_ns - min(took, _MAX_MS) * _NS_IN_MS, 0),
        )
        return RunSpan(**step_members(view, self._around, event_id="", run_id=""))

    def _base_of(self, event: LoggedEvent, words: LogWords, session: str, *, is_begin: bool) -> Fields:
        """Return what a record says of the columns of its run: a prompt what a span would say, any other the least."""
        service = service_of(event.resource)
        # The user's own name for the program, where it has one, is the agent's, as it is with traces.
        agent_name = words.agent if service is None or service.lower() in words.services else service
        least: Fields = {"agent_name": agent_name, "job_type": words.job_type}
        if session:
            least["session_id"] = kept_name(session)
        if service:
            least["service_name"] = service
        if version := _id_in(words.versions, event.attributes) or _id_in(words.versions, event.resource):
            least["agent_version"] = kept_name(version)
        if (outer := run_of_resource(event.resource)) is not None:
            least["parent_run_id"] = outer
        if not is_begin:
            return least
        # What describes the record says nothing of the run.
        own = {name: value for name, value in event.attributes.items() if not name.startswith(_OF_RECORD)}
        view = _view_of(words.job_type, own, event.resource, event.time_ns)
        found = run_columns(
            view, overrides=Overrides(left_out=None, agent_name=agent_name), around=self._around, problems=[]
        )
        base = {**least, **{name: value for name, value in found.items() if name not in ("status", "metrics_json")}}
        if words.span_is_run and event.trace_id and event.span_id:
            base |= {"trace_id": event.trace_id, "span_id": event.span_id}
        try:
            checked_state(
                {**base, "event_id": turn_event_id("", ""), "run_id": "-", "start_time": iso_utc(event.time_ns)}
            )
        except RecordError:  # an attribute of our own with a value that a column does not take
            return least
        return base


def _own_turn(words: LogWords, role: Role, stretch: str, prompt: str, identity: str) -> str:
    """Return the id of the turn that a record names by itself; "" where the prompts around it decide."""
    if prompt and words.prompt_is_turn and role != "nothing":
        return turn_event_id(stretch, prompt)
    return turn_event_id(stretch, identity) if role == "begins" else ""


def _usage_of(words: LogWords, role: Role, attributes: Mapping[str, Any], time_ns: int) -> Usage:
    """Return what a record adds to the figures of its turn."""
    decided = _decision(words, attributes) if role in ("tool_call", "tool_decision") else {}
    if role == "error":
        return {CHILD_ERRORS: 1}
    if role not in _OPERATIONS:
        return decided
    view = _call_of(words, role, attributes, time_ns)
    if role == "model_gave_up":  # the calls themselves have been reported
        return {LAST_CALL: last_call(ended_at=iso_utc(time_ns), failure=error_of(view))}
    # A record is no step. What failed has no tokens and no price: beside priced calls it would make their cost unknown.
    without = {"steps", BY_MODEL} if role == "model_error" else {"steps"}
    return {**{name: value for name, value in usage_of_step(view).items() if name not in without}, **decided}


def _decision(words: LogWords, attributes: Mapping[str, Any]) -> Usage:
    """Return what a record counts that says whether a tool may be called; nothing where it does not say it."""
    decision = _first_text(words.decisions, attributes).lower()
    if not decision:
        return {}
    return {TOOL_DECISIONS: 1, REJECTED_TOOLS: 1} if decision in words.rejections else {TOOL_DECISIONS: 1}


def _call_of(words: LogWords, role: Role, attributes: Mapping[str, Any], time_ns: int) -> SpanView:
    """Return the span that would describe the call of a record, by the names of the conventions."""
    figures = {names.GEN_AI_OPERATION: _OPERATIONS[role]}
    for name, conventional in words.figures.items():
        if attributes.get(name) not in (None, ""):
            figures.setdefault(conventional, attributes[name])
    is_error = role in _FAILURES or any(str(attributes.get(name)).lower() == "false" for name in words.successes)
    resource = {names.SERVICE_NAME: words.services[0]}
    view = _view_of(_OPERATIONS[role], figures, resource, time_ns)
    if not is_error:
        return view
    return view._replace(status="error", status_message=_error_in(words, attributes))


def _view_of(name: str, attributes: Mapping[str, Any], resource: Mapping[str, Any], time_ns: int) -> SpanView:
    """Return a span of that moment."""
    return SpanView(name, "", "", None, "internal", time_ns, time_ns, "unset", None, dict(attributes), resource)


def _is_failure(words: LogWords, attributes: Mapping[str, Any]) -> bool:
    """Return whether a record reports a failure: a status of HTTP, or an error."""
    # Both, because senders give one, the other, or a status of 200 beside the error of a stream that broke.
    statuses = (_number(attributes.get(name), 0) for name in words.statuses)
    return any(status >= _LEAST_ERROR for status in statuses) or bool(_first_text(words.errors, attributes))


def _error_in(words: LogWords, attributes: Mapping[str, Any]) -> str:
    """Return the error that a record names; the status where it names none."""
    text = _first_text(words.errors, attributes)
    if text.startswith("{"):  # the body of a response
        members = load_object(text) or {}
        inner = members.get("error")
        members = inner if isinstance(inner, dict) else members
        text = str(members.get("message") or text)
    status = next((number for name in words.statuses if (number := _number(attributes.get(name), 0))), 0)
    return text or (f"HTTP status {status}" if status else "")


def _first_text(keys: tuple[str, ...], attributes: Mapping[str, Any]) -> str:
    """Return the first of some attributes that is a text, "" for none."""
    return next((value for key in keys if (value := names.text_attribute(attributes, key))), "")


def _id_in(keys: tuple[str, ...], attributes: Mapping[str, Any]) -> str:
    """Return the first of some attributes that can be an id, as text; "" for none."""
    values = (attributes.get(key) for key in keys)
    return next(
        (str(value) for value in values if isinstance(value, (str, int)) and value not in ("", True, False)), ""
    )


def _number(value: Any, default: int) -> int:
    """Return a number that may be written as text; `default` for what is none, or none that a column can hold."""
    try:
        # Cut: converting a text of a megabyte to a number takes seconds.
        number = int(str(value)[:20])
    except ValueError:
        return default
    return number if 0 <= number < 1 << 62 else default


def _digest(*parts: str) -> str:
    """Return what distinguishes some texts, whatever is in them, from all others."""
    # With their lengths: an id that holds the separator must not be another one's.
    text = "\0".join(f"{len(part)}:{part}" for part in parts)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST).hexdigest()
