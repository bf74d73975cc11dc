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
from opentelemetry.trace import INVALID_SPAN_CONTEXT

from otel_agent_telemetry.recording.active_runs import ActiveRun


class EventSink(Protocol):
    """Where a live span's events go: the processor."""

    def record_event(self, opened: OpenSpan, name: str, attributes: Any, timestamp: Any) -> None:
        """Write one event of an open span, from any attributes. Never raises."""

    def record_plain_event(self, opened: OpenSpan, name: str, attributes: dict[str, Any], at_ns: int) -> None:
        """Write one event whose attributes `takes_plain` has accepted. Never raises."""

    def takes_plain(self, attributes: dict[str, Any]) -> bool:
        """Return whether the attributes need no cleaning, neither OpenTelemetry's nor ours."""


class OpenSpan:
    """An open span that is recorded: a run itself, or a step of one."""

    __slots__ = ("attributes", "changed", "encoded", "ended", "generation", "is_run", "live", "run", "sink", "span_id")

    def __init__(
        self, run: ActiveRun, live: Any, span_id: str, sink: EventSink, *, is_run: bool, generation: object
    ) -> None:
        self.run = run
        self.live = live
        self.span_id = span_id
        self.sink = sink
        self.is_run = is_run
        self.generation = generation
        """Which process began the span: only that one writes its end."""
        self.changed = False
        """Whether attributes were set since the start; always True where that cannot be observed."""
        self.attributes: dict[str, Any] = {}
        self.ended = False
        self.encoded = b""
        """A step's members that its start wrote and its end repeats."""

    def __copy__(self) -> OpenSpan:
        return self

    def __deepcopy__(self, _memo: object) -> OpenSpan:
        return self

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Pickle as None: a span that an application pickles arrives without what is known of it here."""
        return type(None), ()

    def has_id(self, span_id: int) -> bool:
        """Return whether the span has this id."""
        return int(self.span_id, 16) == span_id

    def attach(self) -> None:
        """Observe the span's events and attributes from now on."""
        live = self.live
        if type(live) is _Span and HAS_KNOWN_SHAPE:
            vars(live)["_agent_telemetry"] = self
            live.__class__ = LiveSpan
            return
        self.changed = True
        original = live.add_event

        def add_event(name: str, attributes: Any = None, timestamp: int | None = None) -> None:
            original(name, attributes, timestamp)
            self.sink.record_event(self, name, attributes, timestamp)

        live.add_event = add_event

    def set_unobserved(self, key: str, value: str) -> None:
        """Set a text attribute of ours on the span, which counts as no change of it."""
        live = self.live
        if type(live) is not LiveSpan or not put(live, key, value):
            live.set_attribute(key, value)

    def detach(self) -> None:
        """Give the span back as it was."""
        live = self.live
        if type(live) is LiveSpan:
            live.__class__ = _Span  # type: ignore[assignment]  # mypy sees one class only
            del vars(live)["_agent_telemetry"]
        else:
            live.__dict__.pop("add_event", None)


class LiveSpan(_Span):
    """The SDK's span, whose events and changes of attributes are observed."""

    _agent_telemetry: OpenSpan

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        """Add an event to the span and write it. On return its line survives the death of the process."""
        if type(attributes) is dict and (timestamp is None or type(timestamp) is int):
            plain = attributes.copy()
            if takes_plain(self, name, plain):
                add_plain_event(self, name, plain, time_ns() if timestamp is None else timestamp)
                return
        recording = self._end_time is None
        super().add_event(name, attributes, timestamp)
        if recording:
            opened = self._agent_telemetry
            opened.sink.record_event(opened, name, attributes, timestamp)

    def set_attribute(self, key: str, value: Any) -> None:
        """Set an attribute as the SDK does."""
        self._agent_telemetry.changed = True
        super().set_attribute(key, value)

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Set attributes as the SDK does."""
        self._agent_telemetry.changed = True
        super().set_attributes(attributes)

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
        """The ended span as processors get it, with what we know of it."""
        ended = super()._readable_span()
        vars(ended)["_agent_telemetry"] = self._agent_telemetry
        return ended


# What `repr` of a span and of its type show.
LiveSpan.__name__, LiveSpan.__qualname__, LiveSpan.__module__ = _Span.__name__, _Span.__qualname__, _Span.__module__


def takes_plain(span: LiveSpan, name: str, attributes: dict[str, Any]) -> bool:
    """Return whether an event needs no cleaning, neither OpenTelemetry's nor ours.

    A function, as the next two are: a span shows no public names but the SDK's.
    """
    limits = span._limits
    return (
        type(name) is str
        and limits.max_attribute_length is None
        and (limits.max_event_attributes is None or len(attributes) <= limits.max_event_attributes)
        and span._agent_telemetry.sink.takes_plain(attributes)
    )


def add_plain_event(span: LiveSpan, name: str, attributes: dict[str, Any], at_ns: int) -> None:
    """Add an event that `takes_plain` has accepted; the attributes are the span's own from now on."""
    event = _event(name, _bounded(attributes, span._limits.max_event_attributes), at_ns)
    with span._lock:
        recording = span._end_time is None
        if recording:
            span._events.append(event)  # type: ignore[attr-defined]  # typed as what readers see
    if recording:
        opened = span._agent_telemetry
        opened.sink.record_plain_event(opened, name, attributes, at_ns)
    else:
        _Span.add_event(span, name)  # logs the SDK's warning


def put(span: LiveSpan, key: str, value: str) -> bool:
    """Set an attribute that needs no cleaning; False where another one would have to leave for it."""
    with span._lock:
        bounded = span._attributes
        if type(bounded) is not BoundedAttributes or bounded.max_value_len is not None:
            return False
        attributes, limit = bounded._dict, bounded.maxlen
        if limit is not None and len(attributes) >= limit and key not in attributes:
            return False
        attributes[key] = value
        return True


def opened_of(span: object) -> OpenSpan | None:
    """Return what is known of a span that is being recorded live, or that has just ended; else None."""
    found = getattr(span, "__dict__", {}).get("_agent_telemetry")
    return found if isinstance(found, OpenSpan) else None


def _bounded(attributes: dict[str, Any], limit: int | None) -> BoundedAttributes:
    """The attributes as the SDK keeps them, without looking at each again."""
    bounded = BoundedAttributes.__new__(BoundedAttributes)
    bounded._dict = attributes
    bounded.maxlen = limit
    bounded.dropped = 0
    bounded.max_value_len = None
    bounded._lock = threading.Lock()
    bounded._immutable = True
    return bounded


def _event(name: str, attributes: BoundedAttributes, at_ns: int) -> Event:
    event = Event.__new__(Event)
    event._name = name
    event._timestamp = at_ns
    event._attributes = attributes
    return event


def _has_known_shape() -> bool:
    """Whether the SDK's classes hold what `_bounded` and `_event` set, and a span what `LiveSpan` reads."""
    try:
        attributes = {"a": 1}
        theirs = BoundedAttributes(4, attributes, max_value_len=None, immutable=True)
        span = _Span(name="s", context=INVALID_SPAN_CONTEXT, resource=Resource.get_empty())
        return (
            vars(theirs).keys() == vars(_bounded(attributes, 4)).keys()
            and vars(Event("e", theirs, 1)).keys() == vars(_event("e", theirs, 1)).keys()
            and {"_end_time", "_events", "_limits", "_lock", "_attributes"} <= vars(span).keys()
            and type(span._attributes) is BoundedAttributes
            and all(hasattr(_Span, name) for name in ("_readable_span", "set_attributes", "add_event"))
        )
    except Exception:  # another version of the SDK
        return False


HAS_KNOWN_SHAPE: Final = _has_known_shape()
"""Whether spans of this SDK become live spans; else their `add_event` is shadowed."""
