"""What an application sees of its own spans: the same with and without us."""

from on_disk import journal_lines
from programs import run_host

SURFACE = """
import gc, pickle, weakref
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, Span, TracerProvider, _Span

def seen(provider):
    tracer = provider.get_tracer("app")
    found = []
    with tracer.start_as_current_span("work", attributes={"a": 1}) as span:
        found.append((isinstance(span, Span), isinstance(span, ReadableSpan), isinstance(span, trace.Span)))
        found.append((type(span).__name__, type(span).__qualname__, type(span).__module__, span.__class__.__name__))
        found.append(repr(span).partition("(")[0])
        found.append(trace.get_current_span() is span)
        found.append(sorted(name for name in dir(span) if not name.startswith("_")))
        found.append((hash(span) == hash(span), span == span, bool(span)))
        found.append({span: 1}[span])
        found.append(span.to_json().count("work"))
        reference = weakref.ref(span)
        found.append(reference() is span)
        span.add_event("one", {"a": 1, "b": [1, 2]})
        span.add_event("two", timestamp=1_700_000_000_000_000_000)
        try:
            span.add_event()
        except TypeError as problem:
            found.append(type(problem).__name__)
        try:
            raise ValueError("handled")
        except ValueError as problem:
            span.record_exception(problem)
        found.append([(event.name, sorted(event.attributes or {})) for event in span.events])
        try:
            span.events[0].attributes["a"] = 2
        except TypeError as problem:
            found.append(str(problem))
        span.update_name("renamed")
        found.append((span.name, span.is_recording()))
    found.append((type(span) is _Span, span.is_recording(), sorted(vars(span).keys())))
    span.add_event("too late")
    found.append(len(span.events))
    del span
    gc.collect()
    found.append(reference() is None)
    return found

import logging
logging.disable(logging.WARNING)  # the SDK's, about the event after the end
bare = seen(TracerProvider())
import otel_agent_telemetry
recorded = TracerProvider()
assert otel_agent_telemetry.instrument(tracer_provider=recorded)
ours = seen(recorded)
for one, other in zip(bare, ours):
    assert one == other, (one, other)
"""


def test_a_span_looks_and_behaves_as_without_us(config):
    """Types, names, attributes, events, errors, weak references, and what is left of it after its end."""
    run_host(config, SURFACE)

    assert [line["event_type"] for line in journal_lines(config, "event")] == ["one", "two", "exception"]


SUBCLASS = """
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.trace import TracerProvider, _Span
import otel_agent_telemetry

class Vendors(_Span):
    '''A vendor's span, with a class of its own and a method that it overrides.'''
    seen = 0
    def add_event(self, name, attributes=None, timestamp=None):
        Vendors.seen += 1
        super().add_event(name, attributes, timestamp)

class Swapped(_Span):
    pass

class Wraps:
    '''A vendor's wrapper, as Logfire has it: everything else goes to the span inside.'''
    def __init__(self, span):
        self._span = span
    def __getattr__(self, name):
        return getattr(self._span, name)

provider = TracerProvider()
otel_agent_telemetry.instrument(tracer_provider=provider)
tracer = provider.get_tracer("app")

sdk._Span, kept = Vendors, sdk._Span
span = tracer.start_span("vendor's class")
sdk._Span = kept
assert type(span) is Vendors
span.add_event("by the vendor")
assert Vendors.seen == 1
span.end()
assert type(span) is Vendors and "add_event" not in vars(span)

span = tracer.start_span("class swapped while it is open")
span.add_event("before the swap")
span.__class__ = Swapped
span.add_event("after the swap")
assert type(span) is Swapped
span.end()
assert type(span) is Swapped

span = Wraps(tracer.start_span("wrapped"))
span.add_event("through the wrapper")
span.end()

span = tracer.start_span("shadowed by a vendor")
theirs = []
original = span.add_event
span.add_event = lambda *arguments, **more: (theirs.append(arguments), original(*arguments, **more))
span.add_event("through the shadow")
span.end()
assert len(theirs) == 1 and "add_event" in vars(span)
"""


def test_spans_of_vendors_stay_theirs(config):
    """A class of their own, a class swapped while the span is open, a wrapper, a shadowed method: all are recorded."""
    run_host(config, SUBCLASS)

    states = {line["job_type"]: line["status"] for line in journal_lines(config, "run")}
    assert states == dict.fromkeys(
        ["vendor's class", "class swapped while it is open", "wrapped", "shadowed by a vendor"], "success"
    )
    events = [line["event_type"] for line in journal_lines(config, "event")]
    assert {"by the vendor", "before the swap", "through the wrapper", "through the shadow"} <= set(events)
    assert len(events) == len(set(events))
