from __future__ import annotations

import contextvars
import inspect

import pytest
from opentelemetry import context as otel_context

from otel_agent_telemetry import RunContext
from otel_agent_telemetry.client_spans import RunSpans


def test_block_gets_a_handle_of_the_run(client, captured):
    """`run_id`, `log_event`, `set_metrics`; nothing else is public."""
    with client.track_run("agent", "job", "scheduler", run_id="mine", product="p") as run:
        assert isinstance(run, RunContext)
        run.log_event("checkpoint")
        run.set_metrics(items_succeeded=1)

    public = {name for name, _ in inspect.getmembers(run) if not name.startswith("_")}
    assert public == {"run_id", "log_event", "set_metrics"}
    ended = captured.run("mine")
    assert (ended.trigger_type, ended.product, ended.items_succeeded) == ("scheduler", "p", 1)


def test_nothing_happens_before_the_block(client, captured):
    """A run begins when the block does, not when the manager is made."""
    tracked = client.track_run("agent", "job")
    assert captured.states == []
    with tracked:
        assert len(captured.states) == 1


def test_handle_outlives_its_block_harmlessly(client, captured):
    """Late events are kept under the run id; late metrics change nothing."""
    with client.track_run("agent", "job", run_id="mine") as run:
        pass
    run.log_event("late")
    run.set_metrics(items_failed=9)

    assert captured.run("mine").items_failed == 0
    assert [event.event_type for event in captured.events] == ["late"]


def test_blocks_left_in_the_wrong_order_end_their_own_runs(client, captured):
    """Interleaved blocks do not mix; each ends as it was left."""

    def interleave():
        one, two = client.track_run("agent", "job", run_id="one"), client.track_run("agent", "job", run_id="two")
        one.__enter__()
        two.__enter__()
        one.__exit__(None, None, None)
        two.__exit__(ValueError, ValueError("x"), None)

    contextvars.copy_context().run(interleave)

    assert captured.run("one").status == "success"
    assert captured.run("two").status == "failed"
    assert captured.run("two").parent_run_id == "one"


def test_leaving_in_another_context_does_not_raise_or_log(client, captured, caplog):
    """Frameworks enter and leave in different contexts: the run ends, the other context is left alone."""
    tracked = client.track_run("agent", "job", run_id="mine")
    contextvars.copy_context().run(tracked.__enter__)

    contextvars.copy_context().run(tracked.__exit__, None, None, None)

    assert captured.run("mine").status == "success"
    assert caplog.text == ""


def test_context_that_the_block_attached_and_forgot_ends_with_it(client, captured):
    """Baggage left attached inside does not leave the ended run current: the next root span is a run again."""
    key = otel_context.create_key("mine")
    with client.track_run("agent", "job"):
        otel_context.attach(otel_context.set_value(key, 1))

    assert otel_context.get_value(key) is None
    with captured.provider.get_tracer("app").start_as_current_span("next"):
        pass
    assert [run.job_type for run in captured.runs] == ["job", "next"]


def test_leaving_never_swallows(client):
    """`__exit__` returns nothing true."""
    tracked = client.track_run("agent", "job")
    tracked.__enter__()

    assert not tracked.__exit__(ValueError, ValueError(), None)


def test_block_works_when_nothing_can_be_recorded(client, monkeypatch):
    """An `error-` id, a handle that takes everything, the user's result and exception untouched."""
    monkeypatch.setattr(RunSpans, "start", None)

    with client.track_run("agent", "job") as run:
        run.log_event("e", {"a": 1})
        run.set_metrics(items_failed=1)
        result = 42

    assert result == 42
    assert run.run_id.startswith("error-")
    with pytest.raises(KeyError), client.track_run("agent", "job"):
        raise KeyError
