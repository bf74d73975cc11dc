"""What an entry has of the arguments of a call: by name, as they were, masked, and at no cost to the call."""

from __future__ import annotations

import functools
import json
import threading

import pytest
from on_disk import rows_of
from opentelemetry import trace
from unspeakable import Unspeakable


def test_inputs_have_the_signatures_names_and_defaults(captured, entries):
    """Positional, keyword-only, defaults, `*args` and `**kwargs`, each as the signature says."""

    @captured(capture_inputs=True)
    def work(a, b=2, /, *files, mode="fast", **options):
        return a

    work(1)
    work(1, 3, "x", "y", mode="slow", depth=5)
    assert [entry["inputs"] for entry in entries()] == [
        {"a": 1, "b": 2, "files": [], "mode": "fast", "options": {}},
        {"a": 1, "b": 3, "files": ["x", "y"], "mode": "slow", "options": {"depth": 5}},
    ]


def test_a_call_that_does_not_fit_is_named_as_far_as_it_does(captured, entries):
    """The function's own TypeError, and no argument without the name that masks it."""

    @captured(capture_inputs=True, sanitize_keys=["ssn"])
    def login(user, password, ssn=None):
        return user

    for args, kwargs in ((("bob", "hunter2", "123-45", "one too many"), {}), (("bob",), {"secret": "hunter2"})):
        with pytest.raises(TypeError):
            login(*args, **kwargs)
    masked = "***REDACTED***"
    assert entries()[0]["inputs"] == {"user": "bob", "password": masked, "ssn": masked, "args": ["one too many"]}
    assert entries()[1]["inputs"] == {"user": "bob", "secret": masked}


def test_receivers_that_come_with_all_arguments(captured, entries):
    """`*args` of a class method begin behind the class."""
    decorate = captured(capture_inputs=True)

    class Made:
        @decorate
        @classmethod
        def m(*args):
            return args[1:]

    assert Made.m(1, 2) == (1, 2)
    assert entries()[0]["inputs"] == {"args": [1, 2]}


def test_inputs_are_those_at_the_call(captured, entries):
    """What the function changes afterwards does not change what it was given."""

    @captured(capture_inputs=True)
    def work(items, options):
        items.clear()
        options["password"] = "hunter2"

    work([1, 2], {"a": 1})
    assert entries()[0]["inputs"] == {"items": [1, 2], "options": {"a": 1}}


def test_a_killed_call_has_its_inputs(captured, telemetry, config):
    """The run knows them from its beginning on."""

    @captured(capture_inputs=True)
    def work(a):
        telemetry.client.flush()
        return rows_of(config)

    (row,) = work("given").values()
    assert row["status"] == "running"
    assert json.loads(row["context_json"])["inputs"] == {"a": "given"}


class Changing(dict):
    """Another mapping at each look."""

    def items(self):
        raise RuntimeError("dictionary changed size during iteration")


def cyclic():
    mine = {"name": "a"}
    mine["self"] = [mine, mine]
    return mine


HARD = {
    "an object that answers nothing": lambda: Unspeakable(),
    "a mapping that changes": lambda: Changing(a=1),
    "a cycle": lambda: cyclic(),
    "a hundred megabytes": lambda: "x" * 100_000_000,
    "ten million items": lambda: [0] * 10_000_000,
    "deep": lambda: functools.reduce(lambda inner, _: [inner], range(5000), 0),
    "bytes": lambda: b"\xff\x00" * 10,
    "surrogates": lambda: "\ud800",
    "numbers that JSON has not": lambda: [float("nan"), float("inf"), 10**400, 1 + 2j],
    "a lock": lambda: threading.Lock(),
    "keys of all kinds": lambda: {1: 1, None: 2, (1, 2): 3, b"k": 4},
    "a generator": lambda: (number for number in range(3)),
}


@pytest.mark.parametrize("make", HARD.values(), ids=HARD)
def test_hard_inputs_leave_the_call_alone(captured, entries, make):
    """The result is untouched, the entry is there, bounded, and names what could not be kept."""
    value = make()

    @captured(capture_inputs=True)
    def work(value, other="kept"):
        return value

    assert work(value) is value
    (entry,) = entries()
    assert entry["status"] == "success"
    assert entry["inputs"]["other"] == "kept" or "unreadable" in str(entry["inputs"]) or len(str(entry)) > 60_000
    assert len(json.dumps(entry)) < 400_000


def test_an_iterator_is_not_used_up(captured):
    """Looking at the inputs takes nothing from them."""

    @captured(capture_inputs=True)
    def work(items):
        return list(items)

    assert work(number for number in range(3)) == [0, 1, 2]


SECRETS = [
    {"api_key": "hunter2"},
    {"outer": [{"deep": {"X-Auth-Token": "hunter2"}}]},
    {"url": "https://user:hunter2@example.org/x"},
    {"url": "https://example.org/?token=hunter2&x=1"},
    {"headers": {"Authorization": "hunter2"}},
    {"headers": [("Authorization", "hunter2"), ("Accept", "text/html")]},
    {"headers": [["x-api-key", "hunter2"]]},
    {"headers": [(b"cookie", b"hunter2")]},
    {"raw": "GET / HTTP/1.1\r\nX-Api-Key: hunter2\r\nAccept: text/html"},
    {"command": "curl -H 'Authorization: token hunter2' https://example.org"},
    {"body": '{"password": "hunter2", "user": "x"}'},
    {"nested": {"MyField": "hunter2"}},
    {"nested": [{"myfield": {"even": "hunter2"}}]},
]


@pytest.mark.parametrize("given", SECRETS, ids=str)
def test_secrets_do_not_reach_the_file_nor_the_run(captured, telemetry, config, given):
    """At any depth, in URLs, headers and texts, and under the keys that were named."""

    @captured(capture_inputs=True, sanitize_keys=["MyField"])
    def work(given):
        return given

    assert work(given) is given
    telemetry.client.flush()
    everything = config.capture_file.read_text("utf-8") + str(rows_of(config))
    everything += "".join(path.read_text("utf-8") for path in config.ndjson_dir.iterdir())
    assert "hunter2" not in everything
    assert "***REDACTED***" in everything


class Frame:
    """As numpy's arrays and pandas' frames behave."""

    def __bool__(self):
        raise ValueError("the truth value is ambiguous")

    def __eq__(self, other):
        return self

    __hash__ = None


class Proxy:
    """As werkzeug's proxies behave outside of a request."""

    @property
    def __class__(self):
        raise RuntimeError("working outside of request context")


class Strict(dict):
    """A dict with a `get` of its own."""

    def get(self, *_):
        raise KeyError("strict")


def test_values_that_answer_nothing_break_nothing(captured, telemetry, entries):
    """As inputs, names, durations and results: the call, the context around it and the run are untouched."""
    before = trace.get_current_span()
    for result in (Proxy(), Strict(status="failure"), Frame()):
        assert captured(capture_inputs=True)(lambda given: given)(result) is result
    assert trace.get_current_span() is before
    telemetry.capture(Frame(), "success", Frame(), Frame(), Frame(), Frame(), Frame())
    assert [entry["status"] for entry in entries()] == ["success", "failure", "success", "success"]
    assert list(telemetry._recorder.active.mine()) == []
