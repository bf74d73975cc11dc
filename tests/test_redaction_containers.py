"""Secrets in containers and objects of every kind, and how large one may be."""

from array import array
from collections import UserList, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from types import SimpleNamespace
from typing import NamedTuple
from uuid import UUID

import pytest
from costs import cost_s

from otel_agent_telemetry.redaction import clean, clean_members, is_secret_key
from otel_agent_telemetry.secret_patterns import REDACTED
from otel_agent_telemetry.wire import encode_line


def test_members_of_an_auth_object_are_looked_at_one_by_one() -> None:
    """Its user stays, its password does not."""
    assert clean({"auth": {"user": "me", "password": "x"}}) == {"auth": {"user": "me", "password": REDACTED}}


def test_a_secret_in_a_key_is_masked() -> None:
    """A key is text too: a table of results by address, for example."""
    assert clean({"https://u:hunter2@h/": 200}) == {f"https://{REDACTED}@h/": 200}


class _Place(NamedTuple):
    name: str
    token: str


class _Name(Enum):
    PASSWORD = "p"


@dataclass
class _Card:
    owner: str
    pin: str = field(repr=False)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (_Place("a", "x"), {"name": "a", "token": REDACTED}),
        ({b"x-api-key": b"x"}, {b"x-api-key": REDACTED}),
        ({_Name.PASSWORD: "x"}, {_Name.PASSWORD: REDACTED}),
        (_Card("me", "x"), {"owner": "me", "pin": REDACTED}),
        (deque([{"secret": "x"}]), [{"secret": REDACTED}]),
        (UserList([{"secret": "x"}]), [{"secret": REDACTED}]),
        (SimpleNamespace(secret="x", a=1), {"secret": REDACTED, "a": 1}),
        (ValueError("bad", {"secret": "x"}), {"ValueError": ["bad", {"secret": REDACTED}]}),
        ({"a": {"secret": "x"}}.values(), [{"secret": REDACTED}]),
    ],
)
def test_containers_of_every_kind_are_looked_into(given: object, kept: object) -> None:
    """Named tuples, raw headers, names that are Enums, hidden fields, queues, views, namespaces, exceptions."""
    assert clean(given) == kept


@pytest.mark.parametrize(
    "make",
    [
        lambda: deque([0] * 1_000_000),
        lambda: array("q", [0]) * 1_000_000,
        lambda: dict.fromkeys(range(1_000_000)).keys(),
        lambda: UserList([0] * 1_000_000),
        lambda: SimpleNamespace(items=[0] * 1_000_000),
        lambda: ValueError([0] * 1_000_000),
    ],
)
def test_the_cost_does_not_grow_with_the_container(make: Callable[[], object]) -> None:
    """A million items are looked at as far as they are kept: no `repr` of them all is made."""
    value = make()
    as_long = [0] * 1_000_000
    assert cost_s(lambda: clean({"value": value}, max_bytes=4096)) < 0.1 * cost_s(lambda: repr(as_long))


def test_a_large_member_spares_the_others() -> None:
    """Each member has a share of the bytes, what the small ones leave is the later ones', and trouble stays alone."""

    class Changing(dict):
        def items(self):
            raise RuntimeError("changed size during iteration")

    given = {"large": "x" * 10_000, "broken": Changing(a=1), "last": "y" * 600, "token": "t"}
    kept = clean_members(given, max_bytes=2000, secret_keys=["LAST2"])
    assert len(kept["large"]) < 600
    assert kept["broken"] == "<Changing whose items raise RuntimeError>"
    assert kept["last"] == "y" * 600
    assert kept["token"] == REDACTED


@dataclass
class _Login:
    user: str
    password: str


class _Client:
    def __repr__(self) -> str:
        return "Client(url='http://u:hunter2@h', api_key='hunter2')"


def test_objects_carry_no_secret_past_cleaning() -> None:
    """A dataclass is masked by its field names, any other object in its repr."""
    cleaned = clean({"login": _Login("me", "hunter2"), "client": _Client()})
    assert cleaned["login"] == {"user": "me", "password": REDACTED}
    assert b"hunter2" not in encode_line("event", {"payload": cleaned})


def test_values_with_a_form_of_their_own_pass() -> None:
    """Times, UUIDs and enumerations are left to the line format."""

    class Colour(Enum):
        RED = "red"

    payload = [datetime(2025, 1, 1, tzinfo=UTC), UUID(int=1), Colour.RED]
    assert clean(payload) is payload


def test_a_huge_text_is_cut_in_bounded_time() -> None:
    """100 MB cost no more than what is kept, and the remark says how much is missing."""
    size = 100_000_000
    text = "x" * size
    cleaned = clean({"log": text}, max_bytes=1000)
    assert clean(text.encode(), max_bytes=1000).endswith("x")
    assert cost_s(lambda: clean({"log": text}, max_bytes=1000)) < 0.1 * cost_s(text.encode)
    kept, _, remark = cleaned["log"].partition("… ")
    assert 900 < len(kept) <= 1000
    assert remark == f"[{size - len(kept)} more characters]"


def _cycle() -> dict[str, object]:
    inner: dict[str, object] = {}
    inner["self"] = [inner, inner]
    return inner


def _unfolding() -> object:
    items: object = "x"
    for _ in range(60):
        items = [items, items]
    return items


class _Endless(Mapping):  # type: ignore[type-arg]
    def __getitem__(self, key: object) -> object:
        return "v"

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        while True:
            yield "k"


@pytest.mark.parametrize(
    "payload",
    [
        _cycle(),
        _unfolding(),
        [""] * 5_000_000,
        [None] * 5_000_000,
        _Endless(),
        {str(n): n for n in range(500_000)},
    ],
    ids=["cycle", "unfolding", "empty texts", "nones", "endless", "wide dict"],
)
def test_what_is_too_large_is_closed_in_bounded_time(payload: object) -> None:
    """The budget ends cycles, floods and what never ends; the line is of bounded size."""
    line = encode_line("event", {"payload": clean(payload, max_bytes=100_000)})  # does not return without a bound
    assert len(line) < 3_000_000
    assert b" more " in line


def test_a_huge_key_is_not_remembered() -> None:
    """Only the head of a key is looked at, so the cache holds no megabytes."""
    assert is_secret_key("password" + "x" * 10_000_000) is is_secret_key("password" + "x" * 248)
