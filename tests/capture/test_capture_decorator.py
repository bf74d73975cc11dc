"""`capture_telemetry`: every kind of function stays what it was, and each call is an entry and a run."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
from typing import get_type_hints

import pytest
from unspeakable import Unspeakable

from otel_agent_telemetry import TelemetryCapture, capture_telemetry


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
