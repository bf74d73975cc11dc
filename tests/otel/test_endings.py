"""How a run ended, by its span and the exception on it: status, the error in one line, the error in full."""

from __future__ import annotations

import pytest

from otel_agent_telemetry.otel.endings import ending_of
from otel_agent_telemetry.testing import capture_runs
from tests.otel.span_views import view

JAVASCRIPT = (
    "quota exceeded\n\nError: quota exceeded\n    at file:///app/p.mjs:32:37\n    at ModuleJob.run (node:internal)"
)


def failed(message=None, **attributes):
    return view(attributes, status="error")._replace(status_message=message)


def test_a_stack_in_a_status_is_no_summary():
    """LangGraph.js sends message and stack as one text."""
    assert ending_of(failed(JAVASCRIPT), None, None) == ("failed", "quota exceeded", JAVASCRIPT)


def test_a_stack_in_a_message_is_no_summary():
    """The exception's own stack trace counts before it."""
    exception = {"exception.type": "Error", "exception.message": JAVASCRIPT}
    assert ending_of(failed(), exception, None) == ("failed", "Error: quota exceeded", JAVASCRIPT)
    exception["exception.stacktrace"] = "the stack"
    assert ending_of(failed(), exception, None) == ("failed", "Error: quota exceeded", "the stack")


def test_an_exception_without_a_type_is_its_message():
    """OpenInference's events of JavaScript."""
    assert ending_of(failed(), {"exception.message": JAVASCRIPT}, None).summary == "quota exceeded"
    assert ending_of(failed(), {"exception.escaped": "False"}, None).summary == "Exception"


def test_a_message_of_several_lines_without_a_stack_stays_whole():
    """It is what the exception says."""
    exception = {"exception.type": "ValidationError", "exception.message": "1 error\nfield a: missing"}
    assert ending_of(failed(), exception, None).summary == "ValidationError: 1 error\nfield a: missing"


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (
            "This operation was aborted\n\nAbortError: This operation was aborted\n    at new DOMException (x)",
            "cancelled",
        ),
        ("rpc: context deadline exceeded", "timeout"),
        ("the model is down", "failed"),
    ],
)
def test_a_status_without_an_exception_is_read_too(message, status):
    """Go and JavaScript say it in the description alone."""
    assert ending_of(failed(message), None, None).status == status


def test_an_exception_counts_where_the_sender_sets_no_error_status():
    """LangSmith sets OK on every span; what others handle is no failure."""
    exception = {"exception.type": "Exception", "exception.message": "the model is down"}
    assert ending_of(view({"langsmith.span.kind": "chain"}), exception, None).status == "failed"
    assert ending_of(view({"openinference.span.kind": "CHAIN"}), exception, None).status == "success"


@pytest.mark.parametrize(("attributes", "status"), [({"langsmith.span.kind": "chain"}, "failed"), ({}, "success")])
def test_it_counts_live_too(attributes, status):
    """The end of a span is decided where it ends."""
    with capture_runs() as captured:
        span = captured.provider.get_tracer("app").start_span("graph", attributes=attributes)
        span.add_event("exception", {"exception.type": "Exception", "exception.message": "the model is down"})
        span.end()
        assert captured.runs[0].status == status
