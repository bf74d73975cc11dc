"""Events: payloads of any kind and size, of runs that are open, ended or unknown."""

from __future__ import annotations

import threading
import time
from decimal import Decimal
from enum import Enum

import pytest


class Colour(Enum):
    RED = "red"


class Hostile:
    def __repr__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "payload",
    [
        None, {}, {"a": 1}, {1: 2, None: 3}, {"s": {1, 2}}, {"o": object()}, {"h": Hostile()}, {"n": float("nan")},
        {"big": 10**400}, {"d": Decimal("1.5")}, {"e": Colour.RED}, {"b": b"\xff\x00"}, {"u": "\ud800"}, {"f": lambda: 1},
        [1, 2], "text", 5, object(), {"t": time.gmtime(0)}, {"x": {"y": {"z": [{"deep": (1, 2)}]}}},
    ],
)  # fmt: skip
def test_payloads_that_json_cannot_take(client, captured, payload):
    """Every payload is kept in some form; the span gets it too; nothing raises."""
    run_id = client.start_run("agent", "job")
    client.log_event(run_id, "odd", payload)
    client.log_event(run_id, "next", {"fine": True})
    client.end_run(run_id)

    assert [event.event_type for event in captured.events] == ["odd", "next"]
    assert captured.run(run_id).status == "success"


def test_payload_that_contains_itself(client, captured):
    """A cycle is cut."""
    cycle = {}
    cycle["again"] = [cycle]
    run_id = client.start_run("agent", "job", loop=cycle)
    client.log_event(run_id, "cycle", cycle)

    assert len(captured.events) == 1
    assert captured.run(run_id).status == "running"


def test_payload_that_changes_while_it_is_read(client, captured):
    """Another thread writes the dict: the event is kept, whatever is seen of it."""
    shared, stop = {}, threading.Event()

    def change():
        number = 0
        while not stop.is_set():
            shared[number % 500] = number
            shared.pop((number * 7) % 500, None)
            number += 1

    thread = threading.Thread(target=change)
    thread.start()
    run_id = client.start_run("agent", "job")
    for _ in range(100):
        client.log_event(run_id, "moving", {"shared": shared})
    stop.set()
    thread.join()

    assert len(captured.events) + captured.recorder.counters.internal_errors >= 100


def test_huge_payload_is_cut(client, captured):
    """100 MB of text cost a bounded line, and the rest of the payload says what is missing."""
    run_id = client.start_run("agent", "job")

    client.log_event(run_id, "huge", {"small": 1, "text": "x" * (100 << 20)})

    (event,) = captured.events
    assert event.payload["small"] == 1
    assert len(event.payload["text"]) < 2 << 20
    assert "more characters" in event.payload["text"]


@pytest.mark.parametrize("event_type", ["", None, 5, "x" * 5000, "\ud800", object()])
def test_event_types_of_any_kind(client, captured, event_type):
    """Kept under some text."""
    run_id = client.start_run("agent", "job")

    client.log_event(run_id, event_type, {"a": 1})

    (event,) = captured.events
    assert isinstance(event.event_type, str)


def test_event_of_an_ended_or_foreign_run_is_kept_by_its_id(client, captured):
    """Another process's run, or one that is over: the journal has the event under the run id."""
    run_id = client.start_run("agent", "job", run_id="over")
    client.end_run(run_id)
    client.log_event("over", "late", {"a": 1})
    client.log_event("elsewhere", "far")

    assert [(event.run_id, event.event_type) for event in captured.events] == [("over", "late"), ("elsewhere", "far")]


@pytest.mark.parametrize("run_id", [None, 5, ["x"], {}, object()])
def test_run_ids_of_any_type_raise_nothing(client, capsys, run_id):
    """Every method that takes one."""
    client.log_event(run_id, "event")
    client.end_run(run_id)
    assert client.associate_commit(run_id, "abcdef1", "ci")[0] is False

    assert capsys.readouterr().err
