"""A recording span of the SDK whose events are written when they are added.

OpenTelemetry has no hook for `add_event`, and a span keeps only its last 128 events and
attributes. So the processor turns a span of the SDK into a `LiveSpan` by setting its class,
and back at its end; nothing else of the span changes. Where the span is of another class (a
vendor's), or the SDK's classes do not have the shape that this module was written for
(checked once, at import), `add_event` is shadowed on the instance instead.

An event with plain attributes is not cleaned a second time as the SDK does it: it was
looked at here already.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from time import time_ns
from typing import Any, Final, Protocol, SupportsIndex

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, _Span
from opentelemetry.trace import SpanContext

from otel_agent_telemetry.otel.attribute_plan import AttributePlans
from otel_agent_telemetry.otel.conventions.convention import Kind
from otel_agent_telemetry.otel.left_out import NOTHING
from otel_agent_telemetry.recording.active_runs import ActiveRun

_new = object.__new__


class EventSink(Protocol):
    """Where a live span's events go: `SpanLines`."""

    plans: AttributePlans
    event_names: Mapping[str, bytes | None]
    """Names of events as they stand in a line; None for those that only the long way is right for."""

    def record_event(self, opened: OpenSpan, name: str, attributes: Any, timestamp: Any) -> None:
        """Write one event of an open span, from any attributes. Never raises."""

    def write_event(self, opened: OpenSpan, name: bytes, payload: bytes, at_ns: int) -> None:
        """Write one event, given as it stands in a line. Never raises."""


_NO_ATTRIBUTES: Final[dict[str, Any]] = {}


class OpenSpan:
    """An open span that is recorded: a run itself, or a step of one.

    From its beginning to `detach` the span's events and changes of its attributes are observed.
    `above`: the open span, or one that has ended, that it began inside of; None where there is none.
    """

    # No defaults on the class: the interpreter finds an attribute that has one ten times slower.
    __slots__ = (
        "above", "attributes", "changed", "counted", "encoded", "ended", "event_members", "generation", "inside",
        "is_run", "late_run", "left_out", "live", "number", "plain_kind", "run", "sink", "span_id",
    )  # fmt: skip
    changed: bool
    """Whether attributes were set since the start; always True where that cannot be observed."""
    attributes: dict[str, Any]
    left_out: Mapping[str, int]
    """What was left out of a step's members as message content: counts by name."""
    event_members: bytes
    """How the members of each event of the span begin; empty before the first."""
    encoded: bytes
    """A step's members that its start wrote and its end repeats."""
    plain_kind: tuple[Kind | None] | None
    """Of a step that began the fast way and says no more of what it used: the kind that its attributes call it."""
    inside: list[Any]
    """Of a step: what has ended inside it so far (usages), and the runs that began inside it."""
    counted: Any
    """What a model call that has ended counted, for what ends inside it later."""
    late_run: ActiveRun | None
    """The run that a step turns into when it ends, where its attributes say so already."""

    def __init__(
        self,
        run: ActiveRun,
        live: Any,
        ids: tuple[int, str],
        sink: EventSink,
        generation: object,
        above: OpenSpan | None,
    ) -> None:
        self.run = run
        self.live = live
        self.above = above
        self.number, self.span_id = ids
        """The span's id, and the same in hex."""
        self.sink = sink
        self.generation = generation
        """Which process began the span: only that one writes its end."""
        self.changed = self.ended = False
        self.attributes, self.left_out = _NO_ATTRIBUTES, NOTHING
        self.event_members = self.encoded = b""
        self.plain_kind = self.counted = self.late_run = None
        self.is_run = run.span is live
        if not self.is_run:
            self.inside = []
        if type(live) is SDK_SPAN:
            live.__dict__["_agent_telemetry"] = self
            # Its class and not a wrapper: the application holds this very object, and compares it by identity.
            live.__class__ = LiveSpan
        else:
            self._shadow_add_event()

    def __copy__(self) -> OpenSpan:
        return self

    def __deepcopy__(self, _memo: object) -> OpenSpan:
        return self

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Pickle as None: a span that an application pickles arrives without what is known of it here."""
        return type(None), ()

    def enclosing_run(self) -> ActiveRun:
        """Return the run that the span is, or belongs to now: a step around it may have turned into one."""
        if self.run.has_late_runs:
            at: OpenSpan | None = self
            while at is not None:
                if at.is_run:
                    return at.run
                at = at.above
        return self.run

    def has_ended(self) -> bool:
        """Return whether the span has ended by now, perhaps in another thread."""
        return self.ended

    def forget(self) -> None:
        """Let go of what only an open span needs; what begins below it later may still find it."""
        self.live = None
        if not self.is_run:
            self.attributes, self.encoded = _NO_ATTRIBUTES, b""

    def _shadow_add_event(self) -> None:
        live, self.changed = self.live, True
        original = live.add_event

        def add_event(name: str, attributes: Any = None, timestamp: int | None = None) -> None:
            at_ns = time_ns() if timestamp is None else timestamp
            original(name, attributes, at_ns)
            self.sink.record_event(self, name, attributes, at_ns)

        live.add_event = add_event

    def set_unobserved(self, key: str, value: str) -> None:
        """Set a text attribute of ours on the span, which counts as no change of it.

        Where the SDK has no cleaning to do it is put in place; else, or where another one would have to
        leave for it, the SDK sets it.
        """
        live = self.live
        if type(live) is LiveSpan:
            with live._lock:
                bounded = live._attributes
                if type(bounded) is BoundedAttributes and bounded.max_value_len is None and not bounded._immutable:
                    attributes, limit = bounded._dict, bounded.maxlen
                    if limit is None or len(attributes) < limit or key in attributes:
                        attributes[key] = value
                        return
        live.set_attribute(key, value)

    def detach(self) -> None:
        """Give the span back as it was."""
        live = self.live
        if type(live) is LiveSpan:
            live.__class__ = _Span  # type: ignore[assignment]  # mypy sees one class only
            del live.__dict__["_agent_telemetry"]
        else:
            live.__dict__.pop("add_event", None)


class LiveSpan(_Span):
    """The SDK's span, whose events and changes of attributes are observed."""

    _agent_telemetry: OpenSpan

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        """Add an event to the span and write it. On return its line survives the death of the process."""
        # One reading of the clock for both: a service that gets the event over OTLP too knows it by its time.
        at_ns = time_ns() if timestamp is None else timestamp
        if type(at_ns) is int and add_plain_event(self, name, attributes, at_ns):
            return
        # Asked before the SDK adds it: a span that has ended takes no event, and neither do we.
        recording = self._end_time is None
        super().add_event(name, attributes, at_ns)
        if recording:
            opened = self._agent_telemetry
            opened.sink.record_event(opened, name, attributes, at_ns)

    def set_attribute(self, key: str, value: Any) -> None:
        """Set an attribute as the SDK does."""
        self._agent_telemetry.changed = True
        _Span.set_attribute(self, key, value)

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Set attributes as the SDK does."""
        self._agent_telemetry.changed = True
        _Span.set_attributes(self, attributes)

    def __reduce_ex__(self, _protocol: SupportsIndex) -> tuple[Any, ...]:
        """Copy and pickle as the SDK's span does: a copy is not recorded, and fails where the SDK's fails."""
        state = {name: value for name, value in vars(self).items() if name != "_agent_telemetry"}
        return object.__new__, (_Span,), state

    def update_name(self, name: str) -> None:
        """Rename the span as the SDK does; a run's job type, or a step's name, follows at the end."""
        opened = self._agent_telemetry
        opened.changed = True
        if opened.is_run:
            opened.run.encoded = b""
        super().update_name(name)

    def _readable_span(self) -> ReadableSpan:
        """Return the ended span as processors get it, with what we know of it."""
        ended = _new(ReadableSpan)
        known = vars(self)
        ended.__dict__ = {
            "_name": known["_name"],
            "_context": known["_context"],
            "_kind": known["_kind"],
            "_instrumentation_info": known["_instrumentation_info"],
            "_instrumentation_scope": known["_instrumentation_scope"],
            "_parent": known["_parent"],
            "_start_time": known["_start_time"],
            "_end_time": known["_end_time"],
            "_attributes": known["_attributes"],
            "_events": known["_events"],
            "_links": known["_links"],
            "_resource": known["_resource"],
            "_status": known["_status"],
            "_agent_telemetry": known["_agent_telemetry"],
        }
        return ended


# What `repr` of a span and of its type show.
LiveSpan.__name__, LiveSpan.__qualname__, LiveSpan.__module__ = _Span.__name__, _Span.__qualname__, _Span.__module__


def add_plain_event(span: LiveSpan, name: str, attributes: Any, at_ns: int) -> bool:
    """Add and write an event that needs no cleaning, neither OpenTelemetry's nor ours; return False if it does.

    Events of conventions are not taken, because message content is left out of them, nor exceptions. A function,
    as the others are: a span shows no public names but the SDK's.
    """
    if attributes is None:
        attributes = {}
    if type(name) is not str or type(attributes) is not dict:
        return False
    attributes = attributes.copy()  # the span's own from now on: the caller may change its dict, in another thread too
    opened, limits = span._agent_telemetry, span._limits
    sink, limit = opened.sink, limits.max_event_attributes
    encoded_name = sink.event_names[name]
    encode = sink.plans[tuple(attributes)].encode_payload
    payload = encode(attributes)
    if (
        encoded_name is None
        or payload is None
        or limits.max_attribute_length is not None
        or (limit is not None and len(attributes) > limit)
    ):
        return False
    event = _event(name, attributes, at_ns, limit)
    with span._lock:
        recording = span._end_time is None
        if recording:
            span._events.append(event)  # type: ignore[attr-defined]  # typed as what readers see
    if recording:
        sink.write_event(opened, encoded_name, payload, at_ns)
    else:
        _Span.add_event(span, name)  # logs the SDK's warning
    return True


def opened_of(span: object) -> OpenSpan | None:
    """Return what is known of a span that is being recorded live, or that has just ended; else None."""
    found = getattr(span, "__dict__", {}).get("_agent_telemetry")
    return found if isinstance(found, OpenSpan) else None


def _event(name: str, attributes: dict[str, Any], at_ns: int, limit: int | None) -> Event:
    """Return the event as the SDK makes it, without looking at each attribute again."""
    bounded = _new(BoundedAttributes)
    bounded._dict = attributes
    bounded.maxlen = limit
    bounded.dropped = 0
    bounded.max_value_len = None
    bounded._lock = threading.Lock()
    bounded._immutable = True
    event = _new(Event)
    event._name = name
    event._timestamp = at_ns
    event._attributes = bounded
    return event


def _has_known_shape() -> bool:
    """Return whether the SDK's classes have what `_event` sets, and spans what this module and `processor` read."""
    try:
        attributes = {"a": 1}
        theirs = BoundedAttributes(4, attributes, max_value_len=None, immutable=True)
        ours = _event("e", attributes, 1, 4)
        context = SpanContext(1, 2, is_remote=False)
        span = _Span(name="s", context=context, resource=Resource.get_empty())
        read = {*_READ, "_end_time", "_events", "_limits", "_lock", "_attributes"}
        return (
            vars(theirs).keys() == vars(ours._attributes).keys()
            and vars(Event("e", theirs, 1)).keys() == vars(ours).keys()
            and read <= vars(span).keys()
            and all(vars(span)[f"_{name}"] is getattr(span, name) for name in ("context", "parent", "resource"))
            and tuple(context)[:2] == (context.trace_id, context.span_id)
            and type(span._attributes) is BoundedAttributes
            and all(hasattr(_Span, name) for name in ("_readable_span", "set_attributes", "add_event"))
            and _reads_as_the_sdk_does(span)
        )
    except Exception:  # another version of the SDK
        return False


def _reads_as_the_sdk_does(span: _Span) -> bool:
    """Return whether `LiveSpan._readable_span` gives processors what the SDK gives them."""
    theirs = vars(span._readable_span())
    span.__dict__["_agent_telemetry"] = None
    return {**theirs, "_agent_telemetry": None} == vars(LiveSpan._readable_span(span))  # type: ignore[arg-type]


_READ: Final = ("_context", "_parent", "_start_time", "_name", "_kind", "_resource", "_status")
HAS_KNOWN_SHAPE: Final = _has_known_shape()
"""Whether spans of this SDK become live spans; else their `add_event` is shadowed."""
SDK_SPAN: Final[type | None] = _Span if HAS_KNOWN_SHAPE else None
"""The class of spans whose fields may be read directly: each of its properties costs a call."""


def _first_status() -> object:
    """Return the status object of spans whose status was never set: the SDK's spans share one."""
    try:
        return _Span(name="s", context=SpanContext(1, 2, is_remote=False), resource=Resource.get_empty())._status
    except Exception:  # another version of the SDK
        return None


FIRST_STATUS: Final = _first_status()
"""What `_status` of a span is until it is set: then it need not be asked for its code, which is a property."""
