"""The line format: any value goes in, every whole line comes out, no head is believed."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import Enum
from uuid import UUID

import pytest
from costs import growth
from hypothesis import given
from hypothesis import strategies as st

from otel_agent_telemetry.errors import LineError
from otel_agent_telemetry.wire import (
    EVENT,
    LINE_HEAD,
    RUN,
    SPAN,
    bounded_repr,
    decode_line,
    dumps_text,
    encode_line,
    load_json,
    load_object,
    read_line,
)

HEAD_TEXT = '{"record_type":"run"'
texts = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    [HEAD_TEXT, HEAD_TEXT + ',"a":1}', "\n", "\\", '"', "{", '"wide":true']
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**2000), 2**2000),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
)
inner_heads = st.fixed_dictionaries({"record_type": st.sampled_from([RUN, EVENT]), "event_id": texts})
payloads = st.recursive(
    scalars | inner_heads,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
members = st.fixed_dictionaries({"writer": st.just("w"), "seq": st.integers(1, 10**9)}, optional={"payload": payloads})
lines = st.tuples(st.sampled_from([RUN, EVENT, SPAN]), members)


@given(lines)
def test_a_line_reads_back_as_what_was_written(line: tuple[str, dict[str, object]]) -> None:
    """Any JSON-able members survive, integers beyond 64 bits and foreign scripts included."""
    record_type, inside = line
    raw = encode_line(record_type, inside)
    assert raw.count(b"\n") == 1
    assert raw.endswith(b"\n")
    assert decode_line(raw) == decode_line(raw[:-1]) == {"record_type": record_type, **inside}


@given(lines)
def test_a_line_begins_as_no_part_of_it_does(line: tuple[str, dict[str, object]]) -> None:
    """The head of a line occurs once, whatever texts and objects are inside."""
    raw = encode_line(*line)
    assert raw.startswith(LINE_HEAD)
    assert raw.count(LINE_HEAD) == 1


def test_a_line_is_ordinary_json() -> None:
    """Other tools read a line without knowing of this module."""
    line = json.loads(encode_line(EVENT, {"payload": {"n": 2**70, "record_type": "run"}}))
    assert line["payload"] == {"n": 2**70, "record_type": "run"}


@pytest.mark.parametrize("depth", [10, 100, 190])
@pytest.mark.parametrize("bottom", [1, 2**80])
def test_deep_payloads_read_back(depth: int, bottom: int) -> None:
    """Nesting as deep as any reader takes is kept, with a wide number at the bottom too."""
    payload: object = bottom
    for level in range(depth):
        payload = [payload] if level % 2 else {"in": payload}
    assert decode_line(encode_line(EVENT, {"payload": payload}))["payload"] == payload


class _Hostile:
    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise RuntimeError("outside of a request")

    def __repr__(self) -> str:
        raise ValueError("no repr")


class _RaisingRepr:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class _NoTextRepr:
    def __repr__(self) -> str:
        return 3  # type: ignore[return-value]


class _RaisingItems(dict):  # type: ignore[type-arg]
    def items(self):  # type: ignore[no-untyped-def]
        raise RuntimeError("no items")


class _Endless(Mapping):  # type: ignore[type-arg]
    """A mapping that never ends and holds itself."""

    def __getitem__(self, key: object) -> object:
        return self

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[int]:
        at = 0
        while True:
            at += 1
            yield at


class _TwoArms(Mapping):  # type: ignore[type-arg]
    def __getitem__(self, key: object) -> object:
        return self

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[str]:
        return iter(("left", "right"))


class _Unbounded:
    def __repr__(self) -> str:
        return "x" * 10_000_000


class _Colour(Enum):
    RED = "red"
    MANY = (1, 2)


@dataclass
class _Point:
    x: int
    y: object


def _cycle() -> list[object]:
    items: list[object] = []
    items.append(items)
    return items


def _two_armed_cycle() -> dict[str, object]:
    arms: dict[str, object] = {}
    arms["left"], arms["right"] = arms, [arms, arms]
    return arms


def _unfolding(depth: int) -> object:
    items: object = "leaf"
    for _ in range(depth):
        items = [items, items]
    return items


def _released() -> memoryview:
    view = memoryview(b"abc")
    view.release()
    return view


HOSTILE = {
    "bytes": b"\xff\x00",
    "memoryview": memoryview(b"abc" * 1000),
    "memoryview without a dimension": memoryview(b"ab").cast("H", []),
    "released memoryview": _released(),
    "not a number": math.nan,
    "infinity": -math.inf,
    "lone surrogate": "a\ud800b",
    "surrogate in a key": {"\udfff": 1},
    "huge integer": 10**10_000,
    "huge negative integer": -(10**10_000),
    "cycle": _cycle(),
    "two-armed cycle": _two_armed_cycle(),
    "unfolding to 2^60": _unfolding(60),
    "unfolding to 2^60 in a set of tuples": {(1, (2, 3))},
    "odd keys": {(1, 2): 1, None: 2, b"k": 3, 1.5: 4, frozenset(): 5, _Colour.RED: 6},
    "keys whose repr raises": {_RaisingRepr(): 1},
    "repr raises": _RaisingRepr(),
    "repr is no text": _NoTextRepr(),
    "repr without end": _Unbounded(),
    "items raise": _RaisingItems(a=1),
    "class raises": _Hostile(),
    "endless mapping": _Endless(),
    "two-armed foreign mapping": _TwoArms(),
    "a type": int,
    "a function": print,
    "an exception": ValueError("x"),
    "a generator": (n for n in range(3)),
    "complex": 1 + 2j,
    "dataclass with a cycle": _Point(1, _cycle()),
    "many leaves": [0] * 2_000_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_value_raises_or_takes_long(name: str) -> None:
    """Whatever the payload, the line is one whole line of bounded size, in bounded time."""
    raw = encode_line(EVENT, {"event_id": "e", "payload": HOSTILE[name], "after": "kept"})
    text = dumps_text(HOSTILE[name])  # neither returns when a value without an end is followed
    assert len(raw) < 10_000_000
    assert raw.count(b"\n") == 1
    line = decode_line(raw)
    assert (line["event_id"], line["after"]) == ("e", "kept")
    json.loads(text)


@given(
    st.recursive(
        st.one_of(
            scalars,
            st.floats(),
            st.text(st.characters()),
            st.binary(),
            st.complex_numbers(),
            st.builds(_RaisingRepr),
        ),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.none() | st.binary() | st.integers(), inner) | st.tuples(inner, inner)
        ),
        max_leaves=8,
    )
)
def test_arbitrary_objects_make_a_line(payload: object) -> None:
    """Mixed objects at any depth are encoded and read back as some JSON."""
    assert decode_line(encode_line(EVENT, {"payload": payload}))["record_type"] == EVENT
    json.loads(dumps_text(payload))


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (math.nan, None),
        (math.inf, None),
        ("\ud800", "\ufffd"),
        ((1, 2), [1, 2]),
        ({3}, [3]),
        (b"ab\xff", "ab\\xff"),
        (2**2048, hex(2**2048)),
        (datetime(2025, 12, 10, tzinfo=UTC), "2025-12-10T00:00:00+00:00"),
        (date(2025, 12, 10), "2025-12-10"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (_Colour.RED, "red"),
        (_Colour.MANY, [1, 2]),
        (_Point(1, {2}), {"x": 1, "y": [2]}),
        ({7: "a", None: "b", True: "c"}, {"7": "a", "null": "b", "true": "c"}),
    ],
)
def test_what_json_does_not_know_becomes_what_it_plainly_is(value: object, read: object) -> None:
    """The documented stand-ins, on the fast road and on the slow one alike."""
    assert decode_line(encode_line(EVENT, {"payload": value}))["payload"] == read
    beside_a_wide_number = decode_line(encode_line(EVENT, {"payload": [value, 2**100]}))["payload"]
    assert beside_a_wide_number == [read, 2**100]


def test_what_is_cut_says_so() -> None:
    """A cycle and a flood end in a remark instead of silently."""
    assert b"<too deep>" in encode_line(EVENT, {"payload": _cycle()})
    assert b"<too large>" in encode_line(EVENT, {"payload": _unfolding(60)})


def test_a_long_repr_is_bounded() -> None:
    """At most 1000 characters and an ellipsis; a repr that raises is named."""
    assert len(bounded_repr(_Unbounded())) == 1001
    assert "_RaisingRepr whose repr raises RuntimeError" in bounded_repr(_RaisingRepr())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\n",
        b"{}\n",
        b"[]\n",
        b"null",
        b'{"record_type":"run"',
        b'{"record_type":"run"}}',
        b'{"record_type":"run"}{"record_type":"run"}',
        b'{ "record_type":"run"}',
        b'{"a":1,"record_type":"run"}',
        b'{"record_type":"run","a":NaN}',
        b'{"record_type":"run","wide":true,"a":}',
        b"\x00" * 100,
        b'{"record_type":"\xff"}',
        b'{"record_type":"run","a":' + b"[" * 100_000,
    ],
)
def test_what_is_no_line_of_ours_is_a_line_error(raw: bytes) -> None:
    """Torn, empty, foreign and damaged bytes raise LineError and nothing else."""
    with pytest.raises(LineError):
        decode_line(raw)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_but_line_error(noise: bytes) -> None:
    """Neither noise nor noise behind a line's head escapes as another error."""
    for raw in (noise, LINE_HEAD + noise, LINE_HEAD + b'run","wide":true,' + noise):
        try:
            decode_line(raw)
        except LineError:
            continue


def test_a_whole_line_is_not_torn() -> None:
    """An ordinary line is one record; a blank one is nothing, and neither is torn."""
    raw = encode_line(RUN, {"event_id": "e"})
    whole, blank = read_line(raw), read_line(b"\n")
    assert (whole.records, whole.torn) == (({"record_type": RUN, "event_id": "e"},), False)
    assert (blank.records, blank.torn) == ((), False)


cuts = st.tuples(lines, st.integers(0, 10**6)).map(lambda drawn: _cut(encode_line(*drawn[0]), drawn[1]))


def _cut(line: bytes, at: int) -> bytes:
    """A head of a line that lacks at least its closing brace."""
    return line[: at % (len(line) - 1)]


@given(st.lists(cuts, min_size=1, max_size=4), lines)
def test_behind_torn_heads_every_whole_line_is_found_and_no_head_is_believed(
    heads: list[bytes], line: tuple[str, dict[str, object]]
) -> None:
    """Any cuts of any lines in a row, then a whole line: exactly the whole line is read."""
    found = read_line(b"".join(heads) + encode_line(*line))
    assert list(found.records) == [{"record_type": line[0], **line[1]}]
    assert found.torn == any(heads)


@given(cuts.filter(bool))
def test_a_head_alone_is_torn_and_holds_nothing(head: bytes) -> None:
    """The cut tail of a file yields no record."""
    found = read_line(head)
    assert found.records == ()
    assert found.torn == bool(head.strip())


def test_every_cut_of_a_line_that_quotes_lines_is_recovered() -> None:
    """All cut positions of one nasty line: an object and a text inside look like lines."""
    nasty = encode_line(EVENT, {"payload": {"record_type": "run", "n": [{"record_type": "run"}], "t": HEAD_TEXT + "}"}})
    whole = encode_line(RUN, {"event_id": "e"})
    for at in range(len(nasty) - 1):
        found = read_line(nasty[:at] + whole)
        assert found.records == ({"record_type": RUN, "event_id": "e"},), at


@given(st.lists(lines, min_size=2, max_size=4))
def test_lines_whose_end_alone_was_lost_are_all_found(written: list[tuple[str, dict[str, object]]]) -> None:
    """Whole lines without LF between them are whole."""
    found = read_line(b"".join(encode_line(*line)[:-1] for line in written) + b"\n")
    assert list(found.records) == [{"record_type": kind, **inside} for kind, inside in written]
    assert found.torn


@given(st.binary(max_size=100).filter(lambda noise: b"\n" not in noise and LINE_HEAD not in noise), lines)
def test_binary_noise_before_a_line_does_not_hide_it(noise: bytes, line: tuple[str, dict[str, object]]) -> None:
    """A block of a lost page before a line is skipped."""
    found = read_line(noise + encode_line(*line))
    assert list(found.records) == [{"record_type": line[0], **line[1]}]


def test_thousands_of_heads_are_read_in_linear_time() -> None:
    """A full disk's worth of heads hides nothing and costs little."""
    head = encode_line(EVENT, {"payload": "x" * 1000})[:-20]
    tail = encode_line(RUN, {"event_id": "e"})
    assert read_line(head * 5000 + tail).records == ({"record_type": RUN, "event_id": "e"},)

    def reading(heads: int) -> Callable[[], object]:
        raw = head * heads + tail
        return lambda: read_line(raw)

    assert growth(reading, small=600, large=4800) < 30  # 8 when it is linear, 64 when it is quadratic


def test_text_that_is_not_json_becomes_the_default() -> None:
    """A column or an answer that holds anything else breaks no reader."""
    assert load_json('{"a": [1]}') == {"a": [1]}
    assert load_json(b"null", "default") is None
    assert load_json("not json") is None
    assert load_json(b"\xff", {"text": "?"}) == {"text": "?"}


@pytest.mark.parametrize(("text", "value"), [('{"a": 1}', {"a": 1}), ("[1]", None), ("null", None), ("{", None)])
def test_only_a_json_object_is_loaded_as_one(text: str, value: object) -> None:
    """Other JSON and no JSON are both None."""
    assert load_object(text) == value
