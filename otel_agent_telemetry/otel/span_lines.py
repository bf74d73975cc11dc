"""From open spans to the lines of the journal that a run's events and steps are.

    event line = head seq "," run "," span id, event type, timestamp, payload
    step line  = head seq "," run "," what its start says "," status [, end time, duration]

`run` are the members that say which run it is: encoded once for each run. Spans and events
with plain attributes (`attribute_plan`) take a fast way, all others a long one; both give
the same members.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Final

import orjson
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from otel_agent_telemetry.clock import instant_ns, iso_utc
from otel_agent_telemetry.last_error import EXCEPTION
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.attribute_plan import AttributePlans
from otel_agent_telemetry.otel.content import ContentRule, rule_of
from otel_agent_telemetry.otel.content_choice import CONTENT_KEPT, around_of, is_chosen
from otel_agent_telemetry.otel.ended_spans import step_members
from otel_agent_telemetry.otel.left_out import NOTHING, note_left_out
from otel_agent_telemetry.otel.live_span import SDK_SPAN, LiveSpan, OpenSpan
from otel_agent_telemetry.otel.spans import EventPayload, SpanView, attributes_of, resource_of, view_of
from otel_agent_telemetry.otel.usage import usage_of_kind, usage_of_step
from otel_agent_telemetry.recording.active_runs import ActiveRun, ResourceDefaults
from otel_agent_telemetry.recording.recorder import Recorder
from otel_agent_telemetry.redaction import clean, kept_name
from otel_agent_telemetry.usage import Usage
from otel_agent_telemetry.wire import BECAME_RUN

KINDS: Final = (b"internal", b"server", b"client", b"producer", b"consumer")
STATUSES: Final = (b"unset", b"ok", b"error")
_MAX_NAME: Final = 256
_KNOWN: Final = (LiveSpan, SDK_SPAN)
"""Classes of spans whose fields may be read directly, open and ended."""
_MAX_NAMES: Final = 1_024


class SpanLines:
    """Writes events and steps of one recorder's runs. Safe under threads; never raises but for a bug of ours."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        config = recorder.config
        defaults = recorder.resource_defaults
        chooses = bool(defaults.content_for)
        self.plans = AttributePlans(rule_of(defaults), max_bytes=config.max_event_bytes, chooses=chooses)
        """The plans of this recorder's runs, events and steps."""
        self.names = _EncodedNames()
        """Names of spans and events as JSON texts."""
        self.event_names: Mapping[str, bytes | None] = _EventNames(self.plans.rule, self.names)

    def around(self, run: ActiveRun) -> ResourceDefaults:
        """Return the defaults that hold for what is below a run: with content where its agent or project is chosen."""
        defaults = self._recorder.resource_defaults
        if not defaults.content_for:
            return defaults
        resource, product = resource_of(run.span.resource), run.settings.get("product")
        return around_of(defaults, resource, run.attributes, agent_name=run.agent_name, product=product)

    def mark_chosen(self, run: ActiveRun, attributes: dict[str, Any]) -> None:
        """Note in a run that begins whether its content is kept by choice; `attributes`: those of its span."""
        run.attributes = attributes
        if is_chosen(self.around(run)):
            # Whatever its own attributes are: its events and steps keep content too.
            run.extra = {**run.extra, CONTENT_KEPT: True}

    def _rule_of(self, run: ActiveRun) -> ContentRule:
        """Return what is message content in a run."""
        return rule_of(self.around(run)) if self._recorder.resource_defaults.content_for else self.plans.rule

    # --- events

    def write_event(self, opened: OpenSpan, name: bytes, payload: bytes, at_ns: int) -> None:
        """Write one event, given as it stands in a line. Never raises."""
        try:
            self._recorder.append_event(
                opened.event_members or _event_members(opened),
                b'%b%b","payload":%b}' % (name, iso_utc(at_ns).encode(), payload),
            )
        except Exception as problem:  # the outer edge of add_event
            self._recorder.counters.internal("event", problem)

    def record_event(self, opened: OpenSpan, name: str, attributes: Any, timestamp: Any) -> None:
        """Write one event of an open span, from any attributes. Never raises."""
        try:
            # A timestamp may be of any type here: an application passes what it likes to `add_event`.
            at_ns = instant_ns(timestamp, 0) if timestamp else 0
            payload = None
            if name == EXCEPTION and opened.is_run and attributes:
                opened.run.exception = dict(attributes)
            if type(attributes) is EventPayload:  # the client's
                payload = attributes.payload
            elif attributes:
                kept, left_out = self._rule_of(opened.run).keep_of_event(name, dict(attributes))
                note_left_out(opened.run, left_out)
                payload = clean(kept, max_bytes=self._recorder.config.max_event_bytes)
            self._record_event(opened, name, payload, at_ns or self._recorder.clock.now_ns())
        except Exception as problem:  # the outer edge of add_event
            self._recorder.counters.internal("event", problem)

    def _record_event(self, opened: OpenSpan, name: str, payload: Any, at_ns: int) -> None:
        """Write an event the long way: as members that the recorder encodes."""
        run = opened.run
        self._recorder.record_event(
            {
                "event_id": run.event_id,
                "run_id": run.run_id,
                "trace_id": run.trace_id,
                "span_id": opened.span_id,
                "event_type": kept_name(name if type(name) is str else str(name)),
                "timestamp": iso_utc(at_ns),
                "payload": payload,
            }
        )

    # --- steps

    def write_step_start(self, opened: OpenSpan, attributes: dict[str, Any]) -> None:
        """Write the first state of a step. `attributes`: a copy of the span's."""
        opened.encoded = self._plain_step(opened, attributes)
        if not opened.encoded:
            self._write_any_step(view_of(opened.live), opened.run)
            return
        opened.attributes = attributes
        self._recorder.append_span(opened.encoded, b'"status":"running"}')

    def _plain_step(self, opened: OpenSpan, attributes: dict[str, Any]) -> bytes:
        """Return the members of a step that both of its states write; empty where only the long way is right."""
        kept: Mapping[str, Any] = attributes
        live, opened.left_out = opened.live, NOTHING
        plan = self.plans[tuple(attributes)]
        if not plan.keeps_all(attributes):
            # Before the look for secrets: texts of models are long, and mostly left out.
            kept, opened.left_out = self._rule_of(opened.run).keep(attributes)
            plan = self.plans[tuple(kept)]
        if type(live) not in _KNOWN or not plan.takes_as_they_are(kept):
            return b""
        parent, start_ns = live._parent, live._start_time
        if parent is None or type(start_ns) is not int:
            return b""
        try:
            members = b'%b,"span_id":"%b","parent_span_id":"%016x","name":%b,"kind":"%b","start_time":"%b"' % (
                opened.run.members or members_of(opened.run),
                opened.span_id.encode(),
                parent.span_id,
                self.names[live._name],
                KINDS[live._kind._value_],
                iso_utc(start_ns).encode(),
            )
            if kept:
                return b'%b,"attributes":%b' % (members, orjson.dumps(kept))
        except (TypeError, ValueError):  # a lone surrogate, a number beyond 64 bits, a long name
            return b""
        return members

    def _write_any_step(self, view: SpanView, run: ActiveRun) -> Mapping[str, int]:
        """Write a state of a step; return the counts of what was left out of it."""
        defaults, left_out = self.around(run), dict[str, int]()
        step = step_members(view, defaults, event_id=run.event_id, run_id=run.run_id, left_out=left_out)
        self._recorder.record_span(step)
        return left_out

    def write_step_end(self, opened: OpenSpan, span: ReadableSpan) -> tuple[Usage, SpanView | None]:
        """Write the last state of a step; return what it used, and its view if one had to be made."""
        attributes = opened.attributes
        # Counted and not compared: attributes are only ever added or replaced, and a replacement sets `changed`.
        inner = getattr(getattr(span, "_attributes", None), "_dict", None)
        if opened.changed or inner is None or len(inner) != len(attributes):
            attributes = attributes_of(span)
            opened.encoded = opened.encoded and self._plain_step(opened, attributes)
        status = span.status
        if not opened.encoded or status.description:
            if status.description:
                # Kept for a run that is left open: its closing state names the last error of its steps.
                opened.run.last_error = status.description
            view = view_of(span)
            note_left_out(opened.run, self._write_any_step(view, opened.run))
            return usage_of_step(view), view
        if opened.left_out:
            note_left_out(opened.run, opened.left_out)
        code = status.status_code
        used = self.used_by(span, attributes, is_error=code is StatusCode.ERROR)
        start_ns, end_ns = span.start_time, span.end_time
        if type(start_ns) is not int or type(end_ns) is not int:
            start_ns = instant_ns(start_ns, 0)
            end_ns = instant_ns(end_ns, start_ns)
        self._recorder.append_span(
            opened.encoded,
            b'"status":"%b","end_time":"%b","duration_ms":%d}'
            % (STATUSES[code._value_], iso_utc(end_ns).encode(), max(end_ns - start_ns, 0) // 1_000_000),
        )
        return used

    def used_by(
        self, span: ReadableSpan, attributes: dict[str, Any], *, is_error: bool
    ) -> tuple[Usage, SpanView | None]:
        """Return what a step used; most used nothing, or are one call of a tool."""
        plan = self.plans[tuple(attributes)]
        if not plan.reports_use and names.PART_OF not in attributes:
            kind = plan.kind_of(attributes, str(span.name))
            if kind != names.MODEL:
                return usage_of_kind(kind, is_error=is_error, attributes=attributes), None
        view = view_of(span)
        return usage_of_step(view), view

    def write_late_step(self, span: ReadableSpan, run: ActiveRun, late: ActiveRun) -> None:
        """Write the last state of a step of `run` that has turned into the run `late`."""
        view, defaults = view_of(span), self.around(run)
        members = step_members(view, defaults, event_id=run.event_id, run_id=run.run_id)
        self._recorder.record_span({**members, BECAME_RUN: late.run_id})


class _EncodedNames(dict[str, bytes]):
    """Names of spans and events as JSON texts: there are few, and they come again and again.

    Raises ValueError for one that needs a closer look: of another type, long, not to be encoded.
    """

    def of(self, name: str) -> bytes | None:
        """Return a text's JSON text; None for one that needs a closer look."""
        try:
            return self[name]
        except ValueError:
            return None

    def __missing__(self, name: str) -> bytes:
        if type(name) is not str or len(name) > _MAX_NAME or kept_name(name) is not name:
            raise ValueError("a name that is cut, masked or made text of, the long way")
        encoded = orjson.dumps(name)
        if len(self) >= _MAX_NAMES:
            self.clear()
        self[name] = encoded
        return encoded


class _EventNames(dict[str, bytes | None]):
    """Names of events as a line has them with what stands around them; None where only the long way is right.

    That is for events of conventions, whose attributes are judged one by one, and for exceptions.
    """

    def __init__(self, rule: ContentRule, encoded: _EncodedNames) -> None:
        super().__init__()
        self._rule = rule
        self._encoded = encoded

    def __missing__(self, name: str) -> bytes | None:
        if len(self) >= _MAX_NAMES:
            self.clear()
        known = None
        if name != EXCEPTION and not self._rule.ruled_events[name]:
            with contextlib.suppress(ValueError, TypeError):
                known = b'"event_type":%b,"timestamp":"' % self._encoded[name]
        if len(name) <= _MAX_NAME:
            self[name] = known
        return known


def _event_members(opened: OpenSpan) -> bytes:
    """Return, and keep, how the members of each event of a span begin."""
    run = opened.run
    opened.event_members = b'%b,"span_id":"%b"' % (run.members or members_of(run), opened.span_id.encode())
    return opened.event_members


def members_of(run: ActiveRun) -> bytes:
    """Return, and keep, how the members of each event and step of a run begin."""
    run_id = run.run_id
    run.members = b'"event_id":"%b","run_id":%b,"trace_id":"%b"' % (
        run.event_id.encode(),
        orjson.dumps(run_id),
        run.trace_id.encode(),
    )
    return run.members
