"""Captured coroutines and generators: their steps, their span, their end, and the event loop meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import types

import pytest
from opentelemetry import trace

from otel_agent_telemetry import TelemetryCapture, capture_telemetry
from otel_agent_telemetry.locks import FileLock


def run_in_progress():
    """The id that the current span has as a run."""
    return trace.get_current_span().attributes.get("agent.run.id")


def test_a_coroutine_function_stays_one(captured, entries):
    """It is awaited, its time is its own, and what is cancelled says so."""

    @captured()
    async def work(pause):
        assert run_in_progress() is not None
        await asyncio.sleep(pause)
        return {"status": "failure", "error": "no luck"}

    assert inspect.iscoroutinefunction(work)
    assert asyncio.run(work(0.05)) == {"status": "failure", "error": "no luck"}
    assert entries()[0]["status"] == "failure"
    assert entries()[0]["error_message"] == "no luck"
    assert entries()[0]["duration_ms"] >= 50


async def _others_run(work, lock):
    """Run a coroutine whose entry finds the file locked; release the lock when other tasks have run."""
    task = asyncio.ensure_future(work)
    for _ in range(100):
        await asyncio.sleep(0.0001)
    assert not task.done()
    lock.release()
    return await task


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("kind", ["coroutine", "generator"])
def test_a_coroutine_does_not_block_the_event_loop(config, entries, kind, raises):
    """While another program holds the file's lock other tasks run; the entry is in the file when the call is over."""
    patient = TelemetryCapture(config=config.with_(capture_lock_timeout_s=60.0))
    patient.capture("first", "success", 0, "test")

    @capture_telemetry(capture=patient)
    async def coroutine():
        if raises:
            raise KeyError("mine")

    @capture_telemetry(capture=patient)
    async def generator():
        yield 1
        if raises:
            raise KeyError("mine")

    async def consumed():
        async for _ in generator():
            pass

    lock = FileLock(config.capture_file)
    assert lock.try_acquire()
    with pytest.raises(KeyError, match="mine") if raises else contextlib.nullcontext():
        asyncio.run(_others_run(coroutine() if kind == "coroutine" else consumed(), lock))
    assert [entry["skill"] for entry in entries()] == ["first", kind]


def test_a_closed_coroutine_neither_waits_nor_loses_its_entry(config, entries):
    """It must not await any more, so its entry is set aside at once when the file is locked."""
    patient = TelemetryCapture(config=config.with_(capture_lock_timeout_s=3600.0))
    patient.capture("first", "success", 0, "test")

    @types.coroutine
    def suspended():
        yield

    @capture_telemetry(capture=patient)
    async def work():
        await suspended()

    running = work()
    running.send(None)
    lock = FileLock(config.capture_file)
    assert lock.try_acquire()
    running.close()
    lock.release()
    assert [entry["skill"] for entry in patient.query()] == ["work", "first"]


def test_a_thousand_coroutines_at_once_are_a_thousand_entries(captured, entries, telemetry, config, rows):
    """Each has a run of its own, and none is another's parent."""

    @captured(capture_inputs=True)
    async def work(number):
        await asyncio.sleep(0.001 * (number % 7))
        return number

    async def all_of_them():
        return await asyncio.gather(*(work(number) for number in range(1000)))

    assert asyncio.run(all_of_them()) == list(range(1000))
    assert sorted(entry["inputs"]["number"] for entry in entries()) == list(range(1000))
    assert {row["parent_run_id"] for row in rows().values()} == {None}


def test_a_generator_is_captured_from_its_first_step_to_its_last(captured, entries):
    """Sending, throwing and returning go through; nothing is captured before it begins."""

    @captured()
    def work():
        told = yield 1
        try:
            yield told
        except KeyError as problem:
            yield f"caught {problem}"
        return {"status": "timeout"}

    assert inspect.isgeneratorfunction(work)
    steps = work()
    assert entries() == []
    assert next(steps) == 1
    assert steps.send("two") == "two"
    assert steps.throw(KeyError("k")) == "caught 'k'"
    with pytest.raises(StopIteration) as stopped:
        next(steps)
    assert stopped.value.value == {"status": "timeout"}
    assert [entry["status"] for entry in entries()] == ["timeout"]


def test_a_generators_run_is_current_in_its_body_only(captured, telemetry):
    """The consumer sees its own span between the steps, the body its run's, or one that it began itself."""
    tracer = telemetry.client._tracer
    seen = []

    @captured()
    def work():
        seen.append(run_in_progress())
        with tracer.start_as_current_span("inner") as inner:
            yield
            seen.append(trace.get_current_span() is inner)
        seen.append(run_in_progress())
        yield

    with tracer.start_as_current_span("outside") as outside:
        for _ in work():
            assert trace.get_current_span() is outside
    assert seen[0] == seen[2] != outside.attributes["agent.run.id"]
    assert seen[1] is True


def test_a_generator_that_is_left_is_a_success_that_was_closed_early(captured, entries):
    """`break`, `close` and being forgotten; cleaning up in the body still happens."""
    cleaned = []

    @captured()
    def work():
        try:
            yield 1
            yield 2
        finally:
            cleaned.append(run_in_progress())

    for _ in work():
        break
    gc.collect()
    steps = work()
    next(steps)
    steps.close()
    assert len(cleaned) == 2
    assert None not in cleaned
    assert [(entry["status"], entry["metadata"]) for entry in entries()] == [("success", {"closed_early": True})] * 2


def test_an_async_generator_is_captured_alike(captured, entries):
    """Sending, throwing, closing and ending; the run is current in the body only."""

    @captured()
    async def work():
        assert run_in_progress() is not None
        told = yield 1
        await asyncio.sleep(0)
        try:
            yield told
        except KeyError:
            yield "caught"

    async def use():
        steps = work()
        assert await steps.__anext__() == 1
        assert not trace.get_current_span().is_recording()
        assert await steps.asend("two") == "two"
        assert await steps.athrow(KeyError()) == "caught"
        with pytest.raises(StopAsyncIteration):
            await steps.__anext__()
        left = work()
        await left.__anext__()
        await left.aclose()
        return [item async for item in work()]

    assert inspect.isasyncgenfunction(work)
    assert asyncio.run(use()) == [1, None]
    assert [entry["metadata"] for entry in entries()] == [{}, {"closed_early": True}, {}]
    assert {entry["status"] for entry in entries()} == {"success"}


def test_a_coroutine_in_the_form_of_a_generator_can_be_awaited(captured, entries):
    """`types.coroutine`."""

    @captured()
    @types.coroutine
    def old_style():
        yield from asyncio.sleep(0).__await__()
        return 5

    async def use():
        return await old_style()

    assert asyncio.run(use()) == 5
    assert entries()[0]["status"] == "success"
