"""`capture_telemetry`: every kind of function stays what it was, and each call is an entry and a run."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import os
import types
from typing import get_type_hints

import pytest
from opentelemetry import trace
from unspeakable import Unspeakable

from otel_agent_telemetry import TelemetryCapture, capture_telemetry
from otel_agent_telemetry.locks import FileLock


def run_in_progress():
    """The id that the current span has as a run."""
    return trace.get_current_span().attributes.get("agent.run.id")


# --- kinds of functions


def test_a_function_keeps_its_signature_name_and_hints(captured):
    """Introspection sees the function that was written."""

    @captured(skill_name="named otherwise")
    def work(a: int, *rest: str, b: float = 2.0, **more: bytes) -> list[int]:
        """Does work."""
        return [a]

    assert work.__name__ == "work"
    assert work.__doc__ == "Does work."
    assert work.__qualname__.endswith("work")
    assert str(inspect.signature(work)) == "(a: 'int', *rest: 'str', b: 'float' = 2.0, **more: 'bytes') -> 'list[int]'"
    assert get_type_hints(work)["return"] == list[int]


def test_without_parentheses_the_skill_is_the_functions_name(telemetry, entries, monkeypatch):
    """`@capture_telemetry` alone uses what the environment names."""
    monkeypatch.setattr(TelemetryCapture, "shared", classmethod(lambda _: telemetry))

    @capture_telemetry
    def work():
        return 5

    assert work() == 5
    assert entries()[0]["skill"] == "work"
    assert entries()[0]["caller"] == "runtime"
    assert entries()[0]["inputs"] == {}


class Worker:
    """Methods of every kind."""

    def __init__(self, telemetry):
        self.secret = telemetry

    def method(self, a):
        return (self, a)

    def on_class(cls, a):  # noqa: N805 - a descriptor is put around it
        return (cls, a)

    def on_nothing(a, b=2):  # noqa: N805 - likewise
        return (a, b)


@pytest.mark.parametrize("outside", [True, False], ids=["above the descriptor", "below it"])
def test_methods_of_every_kind(telemetry, captured, entries, outside):
    """`self` and `cls` are no inputs; the order of decorators does not matter."""
    decorate = captured(capture_inputs=True)

    def with_descriptor(kind, function):
        return decorate(kind(function)) if outside else kind(decorate(function))

    made = type(
        "Made",
        (Worker,),
        {
            "method": decorate(Worker.method),
            "on_class": with_descriptor(classmethod, Worker.__dict__["on_class"]),
            "on_nothing": with_descriptor(staticmethod, Worker.__dict__["on_nothing"]),
        },
    )
    worker = made(telemetry)
    assert worker.method(1) == (worker, 1)
    assert made.on_class(2) == (made, 2)
    assert worker.on_nothing(3) == (3, 2)
    assert [entry["skill"] for entry in entries()] == ["method", "on_class", "on_nothing"]
    assert [entry["inputs"] for entry in entries()] == [{"a": 1}, {"a": 2}, {"a": 3, "b": 2}]


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


def test_callables_of_other_kinds(captured, entries):
    """A partial of a coroutine, a builtin without a signature, an object that can be called."""

    async def add(a, b):
        return a + b

    class Callable:
        def __call__(self, x):
            return x

    added = captured(skill_name="add", capture_inputs=True)(functools.partial(add, 1))
    assert asyncio.run(added(b=2)) == 3
    assert captured(capture_inputs=True)(max)(1, 2) == 2
    assert captured(capture_inputs=True)(Callable())(7) == 7
    assert [entry["skill"] for entry in entries()] == ["add", "max", "Callable"]
    assert [entry["inputs"] for entry in entries()] == [{"b": 2}, {"args": [1, 2]}, {"x": 7}]


def test_a_class_stays_a_class(captured, caplog):
    """It is returned as it is, with a warning."""

    @captured()
    class Thing:
        pass

    assert isinstance(Thing(), Thing)
    assert "is no function and is not captured" in caplog.text


def test_bare_above_the_descriptors_of_classes(telemetry, monkeypatch, entries):
    """Without parentheses too; a property is returned as it is."""
    monkeypatch.setattr(TelemetryCapture, "shared", classmethod(lambda _: telemetry))

    class Made:
        @capture_telemetry
        @classmethod
        def on_class(cls, x):
            return cls, x

        @capture_telemetry
        @staticmethod
        def on_nothing(x):
            return x

        @capture_telemetry
        @property
        def prop(self):
            return 7

        @capture_telemetry()
        @functools.cached_property
        def cached(self):
            return 8

    assert Made.on_class(2) == (Made, 2)
    assert Made.on_nothing(3) == 3
    assert (Made().prop, Made().cached) == (7, 8)
    assert [entry["skill"] for entry in entries()] == ["on_class", "on_nothing"]


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


# --- results and exceptions


@pytest.mark.parametrize(
    ("result", "status"),
    [
        ({"status": "success"}, "success"),
        ({"status": "failure"}, "failure"),
        ({"status": "Timeout"}, "timeout"),
        ({"status": "error"}, "error"),
        ({"status": "pending"}, "pending"),
        ({"status": "failed"}, "failure"),
        ({"status": "splendid"}, "success"),
        ({"status": 404}, "success"),
        ({"status": ["error"]}, "success"),
        ({"status": Unspeakable()}, "success"),
        ({}, "success"),
        ("error", "success"),
        (None, "success"),
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, dict) else str(given),
)
def test_a_returned_status_sets_the_entrys(captured, entries, result, status):
    """A valid one; anything else is a success, and the result is the caller's."""
    assert captured()(lambda: result)() is result
    assert entries()[0]["status"] == status


@pytest.mark.parametrize(
    ("problem", "status", "run_status"),
    [
        (ValueError("bad"), "error", "failed"),
        (TimeoutError("late"), "timeout", "timeout"),
        (KeyboardInterrupt(), "error", "cancelled"),
        (asyncio.CancelledError(), "error", "cancelled"),
        (SystemExit(3), "error", "failed"),
        (SystemExit(0), "success", "success"),
    ],
    ids=repr,
)
def test_what_is_raised_is_raised_and_kept(captured, entries, telemetry, config, problem, status, run_status, rows):
    """The same object goes on, with its context; the entry and the run say what it was."""

    @captured()
    def work():
        raise problem

    with pytest.raises(type(problem)) as raised:
        work()
    assert raised.value is problem
    assert problem.__context__ is None
    (entry,) = entries()
    assert entry["status"] == status
    assert (entry["error_message"] or "").startswith(type(problem).__name__ if status != "success" else "")
    (row,) = rows().values()
    assert (row["run_id"], row["status"]) == (entry["run_id"], run_status)


def test_calls_within_calls_are_runs_within_runs(captured, telemetry, config, entries, rows):
    """The inner run names the outer one as its parent; entries are in the order in which they ended."""

    @captured()
    def inner():
        return 1

    @captured()
    def outer():
        return inner() + 1

    assert outer() == 2
    inner_entry, outer_entry = entries()
    assert (inner_entry["skill"], outer_entry["skill"]) == ("inner", "outer")
    stored = rows()
    assert stored[inner_entry["run_id"]]["parent_run_id"] == outer_entry["run_id"]


@pytest.mark.parametrize("kind", ["a folder", "no permission to make it", "no regular file"])
def test_a_file_that_cannot_be_written_leaves_the_call_alone(config, kind, caplog, tmp_path, rows):
    """The result is the caller's, the run is kept, and what failed is logged."""
    place = tmp_path / "place"
    if kind == "a folder":
        place.mkdir()
    elif kind == "no regular file":
        os.mkfifo(place)
    else:
        place.write_text("a file where a folder should be")
        place = place / "telemetry.json"
    telemetry = TelemetryCapture(place, config=config)

    assert capture_telemetry(capture=telemetry)(lambda: 5)() == 5

    assert f"writing {place} failed" in caplog.text
    assert len(rows()) == 1


def test_recording_that_is_off_writes_nothing(config, tmp_path):
    """`OTEL_SDK_DISABLED=true`: neither an entry nor a run."""
    telemetry = TelemetryCapture(config=config.with_(sdk_disabled=True))
    assert capture_telemetry(capture=telemetry)(lambda: 5)() == 5
    telemetry.capture("a", "success", 1, "CLI")
    assert not config.base_dir.exists()


def test_a_capture_that_cannot_begin_leaves_the_call_alone(monkeypatch, caplog):
    """Whatever is wrong with our own side."""

    def broken(_):
        raise RuntimeError("broken")

    monkeypatch.setattr(TelemetryCapture, "shared", classmethod(broken))

    @capture_telemetry(capture_inputs=True)
    def work(x):
        yield x

    assert list(work(1)) == [1]
    assert capture_telemetry()(lambda: 5)() == 5
    assert "failed" in caplog.text
