from __future__ import annotations

import time

import pytest
from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.resources import Resource

from otel_agent_telemetry import AgentRunLogProcessor, AgentRunSpanProcessor
from otel_agent_telemetry.clock import parse_iso


@pytest.fixture
def logger(captured):
    provider = LoggerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)
    provider.add_log_record_processor(AgentRunLogProcessor(AgentRunSpanProcessor(recorder=captured.recorder)))
    yield provider.get_logger("app")
    provider.shutdown()


def payloads(captured):
    return [(event.event_type, event.payload) for event in captured.events]


def test_log_event_inside_a_run_is_an_event_of_it(captured, logger, tracer):
    """Name, body and attributes; at the time it says, on return on disk."""
    with tracer.start_as_current_span("root") as span:
        logger.emit(event_name="checkpoint", body={"step": 1}, attributes={"k": "v"}, timestamp=1_700_000_000 * 10**9)
        (event,) = captured.events

    assert (event.event_type, event.payload) == ("checkpoint", {"step": 1, "k": "v"})
    assert event.timestamp == "2023-11-14T22:13:20.000000+00:00"
    assert event.run_id == captured.runs[0].run_id
    assert event.span_id == f"{span.get_span_context().span_id:016x}"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"body": None}, {}),
        ({"body": "text"}, {"body": "text"}),
        ({"body": ["a", 1], "attributes": {"k": 2}}, {"body": ["a", 1], "k": 2}),
        ({"body": {"a": {"b": [1, None]}}}, {"a": {"b": [1, None]}}),
    ],
)
def test_bodies_of_every_kind(captured, logger, tracer, given, kept):
    """A mapping becomes the payload, anything else its `body`."""
    with tracer.start_as_current_span("root"):
        logger.emit(event_name="e", **given)

    ((_, payload),) = payloads(captured)
    assert (payload or {}) == kept


def test_without_a_timestamp_the_observed_one_counts(captured, logger, tracer):
    """It is now, not 1970."""
    before = time.time_ns()
    with tracer.start_as_current_span("root"):
        logger.emit(event_name="e")

    assert parse_iso(captured.events[0].timestamp) >= before // 1000 * 1000


def test_secrets_and_size_are_bounded_as_in_span_events(captured, logger, tracer):
    """Log events pass through the same cleaning."""
    with tracer.start_as_current_span("root"):
        logger.emit(event_name="e", body={"password": "hunter2"}, attributes={"api_key": "abc"})
        logger.emit(event_name="large", body="x" * (3 << 20))

    (_, secret), (_, large) = payloads(captured)
    assert secret == {"password": "***REDACTED***", "api_key": "***REDACTED***"}
    assert len(large["body"]) < 2 << 20


def test_event_of_a_step_and_by_explicit_context(captured, logger, tracer):
    """The step's span id, the run's run id; also with a context given by hand."""
    with tracer.start_as_current_span("root"), tracer.start_as_current_span("step") as step:
        logger.emit(event_name="current")
        context = trace.set_span_in_context(step)
    other = tracer.start_span("other")
    logger.emit(event_name="explicit", context=trace.set_span_in_context(other))
    other.end()
    logger.emit(event_name="too late", context=context)

    first, second = captured.events
    assert first.span_id == f"{step.get_span_context().span_id:016x}"
    assert second.run_id == captured.runs[1].run_id


def test_plain_log_records_are_none_of_our_business(captured, logger, tracer):
    """No name, no event; outside of any run neither."""
    logger.emit(event_name="outside")
    with tracer.start_as_current_span("root"):
        logger.emit(body="just a log line", severity_number=SeverityNumber.INFO)

    assert captured.events == []


def test_older_records_carry_the_name_as_an_attribute(captured, logger, tracer):
    """`event.name`, before `event_name` existed."""
    with tracer.start_as_current_span("root"):
        logger.emit(body={"a": 1}, attributes={"event.name": "old", "k": 1})

    assert payloads(captured) == [("old", {"a": 1, "k": 1})]


def test_exception_events_tell_why_a_run_failed(captured, logger, tracer):
    """Exceptions as log records: the reason of a span with status ERROR."""
    with tracer.start_as_current_span("root") as span:
        logger.emit(
            event_name="exception", attributes={"exception.type": "QuotaError", "exception.message": "none left"}
        )
        span.set_status(trace.StatusCode.ERROR)

    assert captured.runs[0].error_summary == "QuotaError: none left"


def test_our_own_failure_never_reaches_the_emitter(captured, logger, tracer, monkeypatch):
    """Counted instead."""
    with tracer.start_as_current_span("root"):
        monkeypatch.setattr(captured.recorder, "record_event", None)
        logger.emit(event_name="e", body={"a": 1})

    assert captured.recorder.counters.internal_errors == 1


def test_flush_is_the_processors(captured):
    """And shutdown holds nothing."""
    processor = AgentRunLogProcessor(AgentRunSpanProcessor(recorder=captured.recorder))
    assert processor.force_flush(10)
    processor.shutdown()


EXCEPTION = {"exception.type": "QuotaError", "exception.message": "no quota left", "exception.stacktrace": "at line 1"}


@pytest.mark.parametrize("name", ["exception", "gen_ai.client.operation.exception", None])
def test_an_exception_that_arrives_as_a_log_record_says_why_the_run_failed(captured, logger, tracer, name):
    """Whatever its event is called, and of a plain log record too, which is no event."""
    with tracer.start_as_current_span("root") as span:
        logger.emit(event_name=name, attributes=EXCEPTION)
        span.set_status(trace.StatusCode.ERROR)

    run = captured.runs[0]
    assert (run.status, run.error_summary, run.error_details) == ("failed", "QuotaError: no quota left", "at line 1")
    assert [event.event_type for event in captured.events] == ([name] if name else [])


def test_a_logged_exception_of_a_run_that_succeeds_or_raises_another(captured, logger, tracer):
    """It was handled: the run's own exception, or none, is what counts."""
    with tracer.start_as_current_span("handled"):
        logger.emit(attributes=EXCEPTION)
    with pytest.raises(ValueError), tracer.start_as_current_span("raises"):
        logger.emit(attributes=EXCEPTION)
        raise ValueError("the end")

    handled, raises = sorted(captured.runs, key=lambda run: run.job_type)
    assert (handled.status, handled.error_summary) == ("success", None)
    assert (raises.status, raises.error_summary) == ("failed", "ValueError: the end")
