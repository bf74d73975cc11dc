"""How runs end: by call, by the block of `track_run`, by another thread, by an exception."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from opentelemetry import trace

from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.testing import ManualClock, capture_runs

# --- ends


def test_ending_twice_warns_and_changes_nothing(client, captured, capsys):
    """Decision 10: on stderr."""
    run_id = client.start_run("agent", "job", run_id="once")
    client.end_run(run_id, "success")
    client.end_run(run_id, "failed")

    assert captured.run("once").status == "success"
    assert "[WARN] Run ID not found: once" in capsys.readouterr().err


def test_ending_an_unknown_run_warns(client, captured, capsys):
    """No record, one sentence."""
    client.end_run("never-started")

    assert captured.states == []
    assert capsys.readouterr().err == "[WARN] Run ID not found: never-started\n"


def test_run_may_be_ended_by_another_thread(client, captured):
    """And by another client of the same configuration; the duration is the whole."""
    run_id = client.start_run("agent", "job")
    other = TelemetryClient(captured.client.config, tracer_provider=captured.provider)
    thread = threading.Thread(target=other.end_run, args=(run_id, "partial"))
    thread.start()
    thread.join()

    assert captured.run(run_id).status == "partial"


def test_threads_ending_one_run_at_once_leave_one_end(client, captured):
    """Twenty threads: one terminal state stands and the id is free again."""
    run_id = client.start_run("agent", "job", run_id="raced")
    barrier = threading.Barrier(20)

    def end():
        barrier.wait()
        client.end_run(run_id, "success")

    threads = [threading.Thread(target=end) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [state.status for state in captured.states if state.ended] == ["success"]
    assert client.start_run("agent", "job", run_id="raced") == "raced"


def test_run_never_ended_stays_running(client, captured):
    """Nothing invents an end while the process lives."""
    run_id = client.start_run("agent", "job")

    assert (captured.run(run_id).status, captured.run(run_id).end_time) == ("running", None)


def test_success_has_no_error_even_when_ended_while_handling_one(client, captured):
    """`end_run(…, "success")` in an except block is a success without an error summary."""
    run_id = client.start_run("agent", "job")
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        client.end_run(run_id, "success")

    assert (captured.run(run_id).status, captured.run(run_id).error_summary) == ("success", None)


def test_error_fields_of_the_caller_stand(client, captured):
    """With any status; nothing of ours replaces them."""
    run_id = client.start_run("agent", "job")
    client.end_run(run_id, "partial", error_summary="two of five failed", error_details="a, b")

    run = captured.run(run_id)
    assert (run.status, run.error_summary, run.error_details) == ("partial", "two of five failed", "a, b")


def test_durations_survive_a_clock_that_goes_backwards():
    """Set back an hour in mid-run: end is not before start, the duration is what elapsed."""
    clock = ManualClock(time.time_ns() + 10**9)
    with capture_runs(clock=clock) as captured:
        run_id = captured.client.start_run("agent", "job")
        clock.jump(clock.now_ns() - 3600 * 10**9)
        captured.client.end_run(run_id)

    run = captured.run(run_id)
    assert run.status == "success"
    assert run.end_time >= run.start_time
    assert run.duration_ms < 60_000
    assert run.updated_at > captured.states[0].updated_at


# --- track_run


def test_exception_ends_the_run_and_goes_on(client, captured):
    """`failed`, with type, message and stack."""
    with pytest.raises(ValueError, match="broken") as caught, client.track_run("agent", "job") as run:
        raise ValueError("broken")

    ended = captured.run(run.run_id)
    assert (ended.status, ended.error_summary) == ("failed", "ValueError: broken")
    assert 'raise ValueError("broken")' in ended.error_details
    assert caught.value.__context__ is None


class RateLimitTimeout(Exception):
    pass


@pytest.mark.parametrize(
    ("problem", "status"),
    [(ValueError(), "failed"), (TimeoutError("slow"), "timeout"), (TimeoutError(), "timeout"),
     (RateLimitTimeout(), "timeout"), (asyncio.CancelledError(), "cancelled"), (KeyboardInterrupt(), "cancelled"),
     (GeneratorExit(), "cancelled"), (SystemExit(3), "failed"), (SystemExit(0), "success"), (SystemExit(), "success"),
     (BaseException("odd"), "failed")],
    ids=lambda value: repr(value),
)  # fmt: skip
def test_every_kind_of_exception_ends_the_run(client, captured, problem, status):
    """BaseException included; it is the very same object that goes on."""
    with pytest.raises(BaseException) as caught, client.track_run("agent", "job") as run:
        raise problem

    assert caught.value is problem
    assert captured.run(run.run_id).status == status


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


def test_exception_that_cannot_be_printed_ends_the_run_too(client, captured):
    """Whatever its `__str__` does, the run is failed and the exception goes on."""
    with pytest.raises(Unprintable), client.track_run("agent", "job") as run:
        raise Unprintable

    ended = captured.run(run.run_id)
    assert ended.status == "failed"
    assert "Unprintable" in ended.error_summary


def test_long_exceptions_are_cut(client, captured):
    """A message of ten megabytes does not become a column of ten megabytes."""
    with pytest.raises(ValueError), client.track_run("agent", "job") as run:
        raise ValueError("x" * (10 << 20))

    ended = captured.run(run.run_id)
    assert ended.status == "failed"
    assert len(ended.error_summary) <= 2000
    assert len(ended.error_details) <= 64_000


def test_error_summary_set_in_the_block_stands(client, captured):
    """The block knows better than the exception's text."""
    with pytest.raises(ValueError), client.track_run("agent", "job") as run:
        run.set_metrics(error_summary="upstream is down")
        raise ValueError("x")

    assert captured.run(run.run_id).error_summary == "upstream is down"


def test_run_ended_inside_its_block_stays_as_it_was_ended(client, captured, capsys):
    """`end_run` in the block, then the block's own end: one end, no warning."""
    with client.track_run("agent", "job") as run:
        client.end_run(run.run_id, "partial")

    assert captured.run(run.run_id).status == "partial"
    assert capsys.readouterr().err == ""


def test_set_metrics_is_kept_on_return(client, captured):
    """A state is written at once; later ones win; after the end nothing changes."""
    with client.track_run("agent", "job") as run:
        run.set_metrics(items_discovered=10)
        assert captured.run(run.run_id).items_discovered == 10
        run.set_metrics(items_discovered=12, items_succeeded=11)
    run.set_metrics(items_discovered=99)

    ended = captured.run(run.run_id)
    assert (ended.items_discovered, ended.items_succeeded, ended.status) == (12, 11, "success")
    assert repr(run) == f"RunContext(run_id={run.run_id!r})"


def test_nested_blocks_give_the_parent(client, captured):
    """`parent_run_id` of the inner run is the outer one's run id; siblings share it."""
    with client.track_run("outer", "job", run_id="outer") as outer:
        for number in range(2):
            with client.track_run("inner", "job", run_id=f"inner-{number}"):
                pass
    with client.track_run("later", "job", run_id="later"):
        pass

    assert outer.run_id == "outer"
    assert {run.run_id: run.parent_run_id for run in captured.runs} == {
        "outer": None, "inner-0": "outer", "inner-1": "outer", "later": None,
    }  # fmt: skip


def test_a_parent_that_the_caller_names_stands(client, captured):
    """Explicit beats nested."""
    with client.track_run("outer", "job"), client.track_run("inner", "job", parent_run_id="other") as run:
        pass

    assert captured.run(run.run_id).parent_run_id == "other"


def test_block_restores_the_current_span(client):
    """Inside the run's span is current, outside what was before, also after an exception."""
    before = trace.get_current_span()
    with pytest.raises(KeyError), client.track_run("agent", "job"):
        assert trace.get_current_span() is not before
        raise KeyError

    assert trace.get_current_span() is before


def test_async_with_and_tasks(client, captured):
    """`async with` works; tasks started in the block belong to it; a cancelled task's run is cancelled."""

    async def inner(name):
        async with client.track_run("inner", "job", run_id=name):
            await asyncio.sleep(0)

    async def stuck(begun):
        async with client.track_run("stuck", "job", run_id="stuck"):
            begun.set()
            await asyncio.Event().wait()

    async def main():
        async with client.track_run("outer", "job", run_id="outer") as run:
            await asyncio.gather(inner("one"), inner("two"))
            begun = asyncio.Event()
            task = asyncio.create_task(stuck(begun))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            run.log_event("done")

    asyncio.run(main())

    assert {run.run_id: (run.status, run.parent_run_id) for run in captured.runs} == {
        "outer": ("success", None),
        "one": ("success", "outer"),
        "two": ("success", "outer"),
        "stuck": ("cancelled", "outer"),
    }


def test_generator_left_in_mid_run(client, captured):
    """Closed from outside: GeneratorExit ends the run."""

    def steps():
        with client.track_run("agent", "job", run_id="gen"):
            yield 1
            yield 2

    generator = steps()
    next(generator)
    generator.close()

    assert captured.run("gen").status == "cancelled"
