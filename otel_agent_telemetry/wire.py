"""The line format of the journal and of buffer segments.

A file is a sequence of lines; a line is one JSON object in UTF-8 followed by LF, and its
first member is always `record_type`, written without spaces:

    line    = '{"record_type":"' type '",' members '}' LF
    type    = "run" | "event" | "span" | "segment" | "sealed"

Common members: `writer` (who wrote it), `seq` (1, 2, 3 … within the writer), `event_id`
and `run_id` of the run. A `run` line holds the columns of one state of the run, defaults
left out, and `span_work`, from which the database decides what is plumbing (`SPAN_WORKS`);
an `event` line `event_type`, `timestamp`, `payload`, `trace_id`, `span_id`; a
`span` line the fields of `RunSpan`; with `became_run` the step has turned into the run of
that id, and what stands below it under the step's run belongs to that one. `segment` and
`sealed` occur in the buffer only and are specified in `buffer.segment`. Unknown members are
kept by readers and mean nothing yet.

Durability: a line is written by one `write(2)` to a file opened O_APPEND, so lines of many
processes never interleave. A write cut short (full disk, a page boundary at a kill) leaves
a head without LF, and the next line lands behind it: that is a *torn* line. A reader never
believes a head, and finds the whole line behind it again, because `{"record_type":"` occurs
at the beginning of a line and nowhere else: inside a JSON string its quotes are escaped,
and an object within a line that begins so is written with a space, `{ "record_type":"`.

Integers beyond 64 bits are written as they are, those beyond 2048 bits as a hexadecimal
text; a line that holds one has `"wide":true` as its second member. NaN and infinities
become null, lone surrogates U+FFFD: JSON has no form for them. Objects that JSON does not
know become what they plainly are (a set a list, a dataclass an object, a time ISO text),
else a bounded `repr`. What nests or unfolds without end is cut, and says so.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from enum import Enum
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson

from otel_agent_telemetry.errors import LineError

RUN: Final = "run"
EVENT: Final = "event"
COMMIT_EVENT: Final = "agent.run.commit"
"""The `event_type` of the event that associates a commit with a run."""
SPAN: Final = "span"
BECAME_RUN: Final = "became_run"
"""The member of a step's last line that names the run which the step has turned into."""
SPAN_WORK: Final = "span_work"
"""The member of a run's states that says what its own span does; no column of a run."""
AGENT_WORK: Final = "agent"
"""The span is an agent's doing: its service is one that agents' runs come from."""
NO_WORK: Final = "none"
"""The span is a root that by itself does nothing that a user asks an agent for."""
NO_WORK_OF_AGENT: Final = "none_of_agent"
"""The same, of a program that is known to be a coding agent."""
SPAN_WORKS: Final = (AGENT_WORK, NO_WORK, NO_WORK_OF_AGENT)

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
"""What an editor or a conversion may put before the first line of a file."""
LINE_HEAD: Final = b'{"record_type":"'
_RUN_HEAD: Final = b'{"record_type":"run",'
_INNER_HEAD: Final = b'{ "record_type":"'
_WIDE: Final = b'","wide":true'
_OPTIONS: Final = orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS
_MAX_REPR: Final = 1000
_MAX_DEPTH: Final = 200
_MAX_NODES: Final = 100_000
_MAX_PLAIN_NODES: Final = 1_000_000
_MAX_INT_BITS: Final = 2048
_TOO_DEEP: Final = "<too deep>"
_TOO_LARGE: Final = "<too large>"

Line = dict[str, Any]

_SCALARS: Final = (bool, int, float, str, bytes, bytearray, memoryview, date, time, UUID)
_LEAVES: Final = frozenset({str, int, float, bool, type(None), datetime, date, UUID})
"""The types that orjson writes in time proportional to their size."""


def encode_line(record_type: str, members: Mapping[str, Any]) -> bytes:
    """Return one line, LF included, for any members whatever their types. Never raises for a value.

    Costs time in proportion to the members, and stays bounded where they unfold without end.
    """
    try:
        if _nodes_left(members.values(), _MAX_PLAIN_NODES) >= 0:
            return _only_head(orjson.dumps({"record_type": record_type, **members}, option=_OPTIONS))
    except (TypeError, ValueError, RuntimeError):  # a surrogate, wide number, odd key, too deep
        pass
    return _encode_anything(record_type, members)


def encode_clean(record_type: str, writer: str, seq: int, members: Mapping[str, Any]) -> bytes:
    """`encode_line` with a writer and a number, for members that `redaction.clean` has bounded.

    Spares the walk that looks for values without end: this is the application's thread.
    """
    # `record_type` first: a reader finds the beginning of a line, also behind a torn one, by `LINE_HEAD`.
    line = {"record_type": record_type, "writer": writer, "seq": seq, **members}
    try:
        return _only_head(orjson.dumps(line, option=_OPTIONS))
    except (TypeError, ValueError, RuntimeError):  # as in encode_line
        del line["record_type"]
        return _encode_anything(record_type, line)


def line_head(record_type: str, writer: str) -> bytes:
    """Return how the lines of a writer begin, up to the value of `seq`; members follow the number and a comma."""
    return b'%b%b","writer":"%b","seq":' % (LINE_HEAD, record_type.encode(), writer.encode())


def encode_members(members: Mapping[str, Any]) -> bytes:
    """Return the members of a line as JSON text without the braces around them.

    For flat members whose texts were cleaned: nothing in them can look like a line's beginning.
    """
    try:
        return orjson.dumps(members)[1:-1]
    except (TypeError, ValueError, RuntimeError):  # a lone surrogate, a number beyond 64 bits
        return _encode_anything(RUN, members)[len(_RUN_HEAD) : -2]


def dumps_text(value: Any) -> str:
    """Return the JSON text of any value, by the rules of a line; for columns that hold JSON."""
    try:
        if _nodes_left((value,), _MAX_PLAIN_NODES) >= 0:
            return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, ValueError, RuntimeError):  # as in encode_line
        pass
    return json.dumps(_Plain().copy(value, 0), separators=(",", ":"), ensure_ascii=False)


def load_json(text: str | bytes, default: Any = None) -> Any:
    """Return the value of JSON text, or `default` when it is not JSON."""
    try:
        return orjson.loads(text)
    except ValueError:
        return default


def load_object(text: str | bytes) -> dict[str, Any] | None:
    """Return the object of JSON text; None when it is not JSON, or not an object."""
    value = load_json(text)
    return value if isinstance(value, dict) else None


def _encode_anything(record_type: str, members: Mapping[str, Any]) -> bytes:
    """Return the line of members that orjson does not take as they are, by copying them to plain values."""
    copier = _Plain()
    plain = {copier.key(name): copier.copy(item, 1) for name, item in members.items()}
    try:
        line = orjson.dumps({"record_type": record_type, **plain}, option=_OPTIONS)
    except (TypeError, ValueError):  # an integer beyond 64 bits
        # orjson reads an integer beyond 64 bits as a float: the mark sends the reader to the standard library.
        wide = {"record_type": record_type, "wide": True, **plain}
        line = json.dumps(wide, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
    return _only_head(line)


def _only_head(line: bytes) -> bytes:
    """Return the line with what looks like a line's head inside it set apart; it means the same."""
    # A payload may quote one of our lines. In a torn line, a reader would take that for a record of its own.
    if line.rfind(LINE_HEAD) <= 0:
        return line
    return LINE_HEAD + line[len(LINE_HEAD) :].replace(LINE_HEAD, _INNER_HEAD)


def _nodes_left(inside: Iterable[Any], left: int) -> int:
    """Return how much of a budget of nodes is left after some values; negative when orjson must not have them.

    A shared list that unfolds to 2^60 items would keep orjson busy for ever, as would a cycle
    with two arms. Only plain dicts, lists, tuples and leaves pass; RecursionError is the
    caller's to catch.
    """
    for item in inside:
        kind = type(item)
        if kind in _LEAVES:
            continue
        if kind is not dict and kind is not list and kind is not tuple:
            return -1
        left -= 1 + len(item)
        if left >= 0:
            left = _nodes_left(item.values() if kind is dict else item, left)
        if left < 0:
            return left
    return left


def bounded_repr(value: object) -> str:
    """Return `repr` of anything, at most 1000 characters, whatever its `__repr__` does."""
    try:
        text = str(repr(value))
    except Exception as failure:
        text = f"<{type(value).__name__} whose repr raises {type(failure).__name__}>"
    return _bounded(text)


class _Plain:
    """Copies any value into plain JSON types, at most `_MAX_DEPTH` deep and `_MAX_NODES` large.

    The bounds are what ends a cycle, and a small graph that unfolds without end. The values'
    own methods may do anything; what they raise becomes a remark in their place.
    """

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = _MAX_NODES

    def copy(self, value: Any, depth: int) -> Any:
        """Return a value as plain JSON; what its methods raise is named in its place."""
        self.left -= 1
        try:
            return self._copy(value, depth)
        except Exception as failure:
            return f"<{type(value).__name__} whose items raise {type(failure).__name__}>"

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        """Return a mapping as a dict with keys that are text."""
        kept: dict[str, Any] = {}
        for name, item in value.items():
            if self.left <= 0:
                kept["…"] = _TOO_LARGE
                break
            kept[self.key(name)] = self.copy(item, depth + 1)
        return kept

    def _copy(self, value: Any, depth: int) -> Any:  # noqa: PLR0911 - a table of types
        """Return a value as plain JSON, by its type."""
        if value is None or isinstance(value, _SCALARS):
            return _plain_scalar(value)
        # Below the recursion limit of the interpreter, of which the application may have used a part already.
        if depth >= _MAX_DEPTH:
            return _TOO_DEEP
        if isinstance(value, Enum):
            return self.copy(value.value, depth + 1)
        if isinstance(value, Mapping):
            return self._mapping(value, depth)
        if isinstance(value, (list, tuple, set, frozenset)):
            return self._items(value, depth)
        if is_dataclass(value) and not isinstance(value, type):
            named = {item.name: getattr(value, item.name, None) for item in fields(value)}
            return self._mapping(named, depth)
        return _plain_text(bounded_repr(value))

    def _items(self, value: Iterable[Any], depth: int) -> list[Any]:
        """Return the items of a sequence or set as a list."""
        kept: list[Any] = []
        for item in value:
            if self.left <= 0:
                kept.append(_TOO_LARGE)
                break
            kept.append(self.copy(item, depth + 1))
        return kept

    def key(self, name: Any) -> str:
        """Return a key as text, as JSON would write it."""
        if name is None or isinstance(name, bool):
            return json.dumps(name)
        return _plain_text(name if isinstance(name, str) else bounded_repr(name))


def _plain_scalar(value: Any) -> Any:  # noqa: PLR0911 - a table of types
    """Return a scalar as JSON has it: text for dates and ids, null for what is no number."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        # Converting a number of a million bits to decimal takes minutes, and Python refuses it.
        return int(value) if value.bit_length() <= _MAX_INT_BITS else _bounded(hex(value))
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str):
        return _plain_text(value)
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    return bytes(value[:_MAX_REPR]).decode("utf-8", "backslashreplace")


def _plain_text(value: str) -> str:
    """Return a text without lone surrogates, which UTF-8 cannot hold."""
    # Of a subclass, its characters alone: its own `__str__` may do anything.
    text = str.__str__(value)
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _bounded(text: str) -> str:
    """Return a text, cut at 1000 characters with an ellipsis."""
    return text if len(text) <= _MAX_REPR else text[:_MAX_REPR] + "…"


def decode_line(raw: bytes) -> Line:
    """Return the object of one line, with or without its LF. Raises LineError for anything else."""
    if not raw.startswith(LINE_HEAD):
        raise LineError("a line begins with its record_type")
    is_wide = raw.startswith(_WIDE, raw.find(b'"', len(LINE_HEAD)))
    try:
        line: Line = json.loads(raw) if is_wide else orjson.loads(raw)
    except (ValueError, RecursionError) as cause:
        raise LineError("a line is one JSON object") from cause
    if is_wide:
        del line["wide"]
    return line


class ReadLine(NamedTuple):
    """What one physical line held: whole records, and whether some of it was torn."""

    records: tuple[Line, ...]
    torn: bool


def read_line(raw: bytes) -> ReadLine:
    """Return the records of one physical line: one, or what can be believed of a torn one.

    Behind a torn head the next writer's line begins. A line's beginning occurs nowhere else,
    so the text is cut at each, and what parses is a line. A head lacks its closing brace, so
    it never parses.
    """
    raw = raw.removeprefix(BYTE_ORDER_MARK)
    try:
        return ReadLine((decode_line(raw),), torn=False)
    except LineError:
        return ReadLine(tuple(_recovered(raw)), torn=bool(raw) and not raw.isspace())


def _recovered(raw: bytes) -> Iterator[Line]:
    """Yield the lines that stand in a line which a torn write has joined."""
    start = raw.find(LINE_HEAD)
    while start >= 0:
        following = raw.find(LINE_HEAD, start + 1)
        with contextlib.suppress(LineError):  # a torn piece
            yield decode_line(raw[start : following if following >= 0 else len(raw)])
        start = following
