"""Events of live spans, and how a run ends."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Status, StatusCode

from otel_agent_telemetry import AgentRunSpanProcessor
from otel_agent_telemetry.clock import iso_utc


def test_event_is_written_when_add_event_returns(captured, tracer):
    """With attributes and the caller's timestamp; the span has it too."""
    with tracer.start_as_current_span("root") as span:
        span.add_event("checkpoint", {"step": 1, "token": "x"}, timestamp=1_700_000_000_000_000_000)
        (event,) = captured.events

    assert (event.event_type, event.timestamp) == ("checkpoint", "2023-11-14T22:13:20.000000+00:00")
    assert event.payload == {"step": 1, "token": "***REDACTED***"}
    assert span.events[0].attributes["step"] == 1


def test_events_of_steps_are_events_of_the_run(captured, tracer):
    """Under the step's span id."""
    with tracer.start_as_current_span("root"), tracer.start_as_current_span("step") as step:
        step.add_event("hit")

    (event,) = captured.events
    assert event.run_id == captured.runs[0].run_id
    assert event.span_id == f"{step.get_span_context().span_id:016x}"


def test_add_event_is_the_spans_own_again_after_the_end(captured, tracer):
    """Nothing of ours stays on a span that has ended; late events are the SDK's business."""
    bare = TracerProvider(shutdown_on_exit=False).get_tracer("app").start_span("root")
    span = tracer.start_span("root")
    assert type(span) is not type(bare)
    span.end()

    assert type(span) is type(bare)
    assert vars(span).keys() == vars(bare).keys()
    span.add_event("late")
    assert captured.events == []


def test_recorded_exception_is_an_event_and_the_reason(captured, tracer):
    """`record_exception` with status ERROR; without it the run is a success that had an exception."""
    for status in (StatusCode.ERROR, StatusCode.UNSET):
        with tracer.start_as_current_span("root") as span:
            span.record_exception(LookupError("missing"), attributes={"hint": "look"})
            span.set_status(status)

    failed, fine = captured.runs
    assert (failed.status, failed.error_summary) == ("failed", "LookupError: missing")
    assert (fine.status, fine.error_summary) == ("success", None)
    assert captured.events[0].payload["hint"] == "look"


def test_a_line_of_an_event_has_the_time_of_the_spans_event(captured, tracer):
    """A service that gets the event over OTLP as well knows it by its span, type and time."""
    with tracer.start_as_current_span("root") as span:
        span.add_event("plain")
        span.add_event("cleaned", {"parts": {"not": "a type of OpenTelemetry"}})
        span.record_exception(LookupError("missing"))

    assert [event.timestamp for event in captured.events] == [iso_utc(event.timestamp) for event in span.events]


def test_exception_ends_the_run_as_failed(captured, tracer):
    """Type and message, and the stack."""
    with pytest.raises(ZeroDivisionError), tracer.start_as_current_span("root"):
        1 / 0  # noqa: B018

    (run,) = captured.runs
    assert (run.status, run.error_summary) == ("failed", "ZeroDivisionError: division by zero")
    assert "1 / 0" in run.error_details


@pytest.mark.parametrize(
    ("problem", "status"),
    [(TimeoutError("t"), "timeout"), (asyncio.CancelledError(), "cancelled"), (KeyboardInterrupt(), "cancelled"),
     (GeneratorExit(), "cancelled"), (SystemExit(2), "failed"), (SystemExit(0), "success"), (BaseException("b"), "failed")],
    ids=lambda value: repr(value),
)  # fmt: skip
def test_exceptions_that_opentelemetry_does_not_record(captured, tracer, problem, status):
    """The SDK ends these spans UNSET; the run says what happened and why."""
    with pytest.raises(BaseException) as caught, tracer.start_as_current_span("root"):
        raise problem

    assert caught.value is problem
    (run,) = captured.runs
    assert run.status == status
    assert bool(run.error_summary) == (status != "success")


def test_run_made_while_an_interrupt_is_handled_is_its_own(captured, tracer):
    """A clean-up run started in the handler did not fail of what it cleans up after."""
    with pytest.raises(KeyboardInterrupt):
        try:
            raise KeyboardInterrupt
        finally:
            with tracer.start_as_current_span("clean up"):
                pass

    assert captured.runs[0].status == "success"


def test_status_of_the_span_and_description(captured, tracer):
    """ERROR with a text and no exception; OK; and `agent.run.status` over both."""
    for status, said in (
        (Status(StatusCode.ERROR, "quota"), None),
        (Status(StatusCode.OK), None),
        (None, "Partial"),
        (Status(StatusCode.ERROR), "ok"),
    ):
        span = tracer.start_span("root")
        if status is not None:
            span.set_status(status)
        if said is not None:
            span.set_attribute("agent.run.status", said)
        span.end()

    assert [(run.status, run.error_summary) for run in captured.runs] == [
        ("failed", "quota"), ("success", None), ("partial", None), ("success", None),
    ]  # fmt: skip


def test_secrets_at_the_end_of_a_long_stack_are_masked(captured, tracer):
    """A stack past 16 KiB has its message at its end."""

    def deep(number):
        if number == 0:
            raise ValueError("token is Bearer abcdefghijklmnop")
        try:
            deep(number - 1)
        except ValueError as problem:
            raise ValueError(f"level {number}") from problem

    with pytest.raises(ValueError), tracer.start_as_current_span("root"):
        try:
            deep(200)
        except ValueError as problem:
            raise ValueError("last Bearer qrstuvwxyzabcdef") from problem

    (run,) = captured.runs
    assert len(run.error_details) > 20_000
    assert "abcdefghijklmnop" not in run.error_details
    assert "qrstuvwxyzabcdef" not in run.error_details + run.error_summary


def test_end_time_given_by_the_caller_counts(captured, tracer):
    """Instrumentations that replay spans set both times."""
    start = 1_700_000_000 * 10**9
    tracer.start_span("root", start_time=start).end(end_time=start + 2_500_000_000)

    (run,) = captured.runs
    assert (run.start_time, run.end_time, run.duration_ms) == (
        "2023-11-14T22:13:20.000000+00:00", "2023-11-14T22:13:22.500000+00:00", 2500,
    )  # fmt: skip


def test_ending_twice_is_harmless(captured, tracer):
    """The SDK warns; we have one end."""
    span = tracer.start_span("root")
    span.end()
    span.end()

    assert [state.status for state in captured.states] == ["running", "success"]


def test_a_run_left_open_names_the_last_error_known(captured, tracer):
    """Some libraries end the step that failed, and never the span around it."""
    processor = AgentRunSpanProcessor(recorder=captured.recorder)
    left_open = tracer.start_span("agent", attributes={"agent.run.id": "by a step"})
    current = trace.use_span(left_open, record_exception=False, set_status_on_exception=False)
    with pytest.raises(OSError, match="gone"), current, tracer.start_as_current_span("step"):
        raise OSError("gone")
    tracer.start_span("agent", attributes={"agent.run.id": "by itself"}).record_exception(ValueError("bad"))
    processor.close_open_runs()
    why = {run.run_id: run.error_summary for run in captured.runs}
    prefix = "the process exited while the run was still open; its last error: "
    assert why == {"by a step": f"{prefix}OSError: gone", "by itself": f"{prefix}ValueError: bad"}
