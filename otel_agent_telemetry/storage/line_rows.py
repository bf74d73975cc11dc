"""Events and steps of a journal's lines as the rows that keep them.

Each line stands for itself: what breaks a rule raises RecordError. Values were bounded and masked
where they were recorded; that a sender says so is no reason to believe it, so they are masked once
more here.

A line of the form that a recorder writes is checked as a whole, and the payloads of many lines
together (`UsualEvents`): checked one value after another, an event cost more here than in the database.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

import orjson

from otel_agent_telemetry.clock import parse_iso
from otel_agent_telemetry.column_checks import check_column, check_time, shown
from otel_agent_telemetry.columns import MAX_COUNT
from otel_agent_telemetry.deletion import MARK_EVENTS, PURGED_EVENT
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.model import RunSpan
from otel_agent_telemetry.redaction import are_plain_names, clean, kept_name
from otel_agent_telemetry.secret_patterns import mask_text
from otel_agent_telemetry.state_plan import AS_STORED, FORMS
from otel_agent_telemetry.storage.rows import clean_text, storable_texts
from otel_agent_telemetry.storage.steps import NO_RUN, EventLine, SpanRow
from otel_agent_telemetry.storage.tables import UNKNOWN_START
from otel_agent_telemetry.wire import BECAME_RUN, COMMIT_EVENT, Line, dumps_text

NOT_STORED: Final = frozenset({*MARK_EVENTS, PURGED_EVENT})
"""Types of events that no row is made of: a deletion is asked for by a call of its own, with its own permission."""
_is_writer: Final = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII).fullmatch
_KINDS: Final = frozenset({"internal", "server", "client", "producer", "consumer"})
_STATUSES: Final = frozenset({"running", "unset", "ok", "error"})
_LEVELS: Final = 256
_TIME: Final = AS_STORED["start_time"]
_FORMED: Final = ("event_id", "run_id", "trace_id", "span_id", "timestamp")
_USUAL: Final = frozenset({"record_type", "writer", "seq", "event_type", "payload", *_FORMED})
_texts_of: Final = itemgetter(*_FORMED, "writer", "event_type")
_are_usual: Final = re.compile(
    "".join(f"(?:{FORMS[name]})\n" for name in (*_FORMED[:-1], "start_time"))
    + r"[\x21-\x7e]{1,255}\n[^\0\n\ud800-\udfff]{1,64}",
    re.ASCII,
).fullmatch
_PLAIN_VALUES: Final = frozenset({str, int, float, bool, type(None)})
_MANY_MEMBERS: Final = 32
_AT_ONCE: Final = 64
"""Payloads that are checked together: of one with a secret in it all are looked at one by one."""


class UsualEvents:
    """The events of one request that have the form of a recorder's, each with the number of its line.

    Only the form is checked here, in one pass; whatever is unusual takes `event_row`, which makes the same row.
    """

    def __init__(self) -> None:
        self._lines: list[tuple[int, tuple[str, ...], int]] = []
        self._payloads: list[dict[str, Any] | None] = []

    def take(self, line: int, record: Line) -> bool:
        """Take an event in; return False for one that `event_row` has to look at."""
        if record.keys() != _USUAL:
            return False
        texts, number, payload = _texts_of(record), record["seq"], record["payload"]
        try:
            # One match for all texts of a line: a call for each would cost more than the rest of the row.
            if not _are_usual("\n".join(texts)):
                return False
        except TypeError:  # not all are texts
            return False
        if type(number) is not int or not 0 < number <= MAX_COUNT or not _is_flat(payload):
            return False
        event_type = texts[-1]
        if event_type == COMMIT_EVENT or event_type in NOT_STORED or kept_name(event_type) is not event_type:
            return False
        self._lines.append((line, texts, number))
        self._payloads.append(payload)
        return True

    def rows(self) -> list[tuple[int, EventLine]]:
        """Return line → row of the events taken in, with the secrets in their payloads masked."""
        found: list[tuple[int, EventLine]] = []
        for start in range(0, len(self._lines), _AT_ONCE):
            payloads = self._payloads[start : start + _AT_ONCE]
            if not _are_plain(list(filter(None, payloads))):
                # Of the one with a secret nobody knows which it is: all of these few are cleaned.
                payloads = [clean(payload, max_bytes=sys.maxsize) for payload in payloads]
            lines = self._lines[start : start + _AT_ONCE]
            found += map(_usual_row, lines, map(_payload_text, payloads))
        return found


def _usual_row(of_line: tuple[int, tuple[str, ...], int], payload: str | None) -> tuple[int, EventLine]:
    """Return the number of a line, and the row of its event."""
    line, (event_id, run_id, trace_id, span_id, timestamp, writer, event_type), number = of_line
    row = (event_id, run_id, event_type, timestamp, trace_id, payload, 0, span_id, UNKNOWN_START, writer, number)
    return line, EventLine(*row)


def _is_flat(payload: Any) -> bool:
    """Return whether a payload is None, or an object of a few texts and numbers."""
    if type(payload) is not dict:
        return payload is None
    return len(payload) <= _MANY_MEMBERS and _PLAIN_VALUES.issuperset(map(type, payload.values()))


def _are_plain(payloads: Sequence[dict[str, Any]]) -> bool:
    """Return whether no flat payload has a secret that can be recognised."""
    if not all(map(are_plain_names, set(map(tuple, payloads)))):
        return False
    # Joined by a line feed, which no form of a secret spans, so that two texts do not make one.
    texts = "\n".join([text for one in payloads for text in one.values() if text.__class__ is str])
    return mask_text(texts) is texts


def _payload_text(payload: Any) -> str | None:
    """Return the JSON text of a payload as databases can hold it."""
    if payload is None:
        return None
    try:
        return orjson.dumps(payload).decode()
    except (TypeError, ValueError):  # an integer beyond 64 bits, a lone surrogate
        return str(clean_text(dumps_text(payload)))


def event_row(record: Line) -> EventLine:
    """Return the row of an event of any form. Raises RecordError.

    An event may name its run by the run id alone: whoever associates a commit need not know more.
    """
    event_type = record.get("event_type")
    if not isinstance(event_type, str) or not event_type:
        raise RecordError("event_type", f"must be text, got {shown(event_type)}")
    writer, number = _line_of(record)
    row = EventLine(
        event_id=_text(record, "event_id") if record.get("event_id") else NO_RUN,
        run_id=_text(record, "run_id"),
        event_type=kept_name(event_type),
        timestamp=_time(record, "timestamp"),
        trace_id=_text_or_none(record, "trace_id"),
        payload_json=_payload_text(_cleaned("payload", record.get("payload"))),
        seq=0,
        span_id=_text_or_none(record, "span_id") or "",
        span_start_ns=UNKNOWN_START,
        writer=writer,
        writer_seq=number,
    )
    return EventLine._make(storable_texts(row))


def step_row(record: Line) -> SpanRow:
    """Return the state of a step of a line. Raises RecordError."""
    started, ended = _time(record, "start_time"), record.get("end_time")
    name, message, attributes = record.get("name"), record.get("status_message"), record.get("attributes")
    span = RunSpan(
        event_id=_text(record, "event_id"),
        run_id=_text(record, "run_id"),
        trace_id=_text(record, "trace_id"),
        span_id=_text(record, "span_id"),
        parent_span_id=_text_or_none(record, "parent_span_id", "span_id"),
        name=kept_name(name if isinstance(name, str) else ""),
        kind=_word(record, "kind", _KINDS, "internal"),
        status=_word(record, "status", _STATUSES, "running"),
        status_message=None if message is None else str(_cleaned("status_message", message)),
        start_time=started,
        end_time=None if ended is None else _time(record, "end_time"),
        duration_ms=check_column("duration_ms", record.get("duration_ms") or 0),
        attributes=_cleaned("attributes", attributes if isinstance(attributes, dict) else {}),
    )
    became = record.get(BECAME_RUN)
    writer, number = _line_of(record)
    return SpanRow(
        span,
        start_ns=parse_iso(started),
        writer=writer,
        writer_seq=number,
        became_run=None if became is None else check_column("run_id", became),
    )


def _line_of(record: Line) -> tuple[str, int]:
    """Return the writer and the number of a record; of one without them, a digest of what it holds and 0.

    So a line that an old version or another tool wrote changes nothing either when it comes again.
    """
    writer, number = record.get("writer"), record.get("seq")
    if writer is None and number is None:
        return hashlib.blake2b(repr(sorted(record.items())).encode("utf-8", "replace"), digest_size=16).hexdigest(), 0
    if not isinstance(writer, str) or not _is_writer(writer):
        raise RecordError("writer", f"must be up to 255 printable characters, got {shown(writer)}")
    if type(number) is not int or not 0 < number <= MAX_COUNT:
        raise RecordError("seq", f"must be an integer from 1, got {shown(number)}")
    return writer, number


def _text(record: Mapping[str, Any], name: str, column: str | None = None) -> str:
    """Return a member that a column of a run holds too, by that column's rule. Raises RecordError."""
    value, column = record.get(name), column or name
    if type(value) is str and AS_STORED[column](value):
        return value
    if value is None:
        raise RecordError(name, "is required")
    return str(check_column(column, value))


def _text_or_none(record: Mapping[str, Any], name: str, column: str | None = None) -> str | None:
    """Return such a member, None where it is missing or empty. Raises RecordError."""
    return None if record.get(name) in (None, "") else _text(record, name, column)


def _time(record: Mapping[str, Any], name: str) -> str:
    """Return a time in our form; one that has it already is not parsed again. Raises RecordError."""
    value = record.get(name)
    return value if type(value) is str and _TIME(value) else check_time(name, value)


def _word(record: Mapping[str, Any], name: str, words: frozenset[str], default: str) -> str:
    """Return one of a few words, `default` for a missing member. Raises RecordError."""
    value = record.get(name, default)
    if not isinstance(value, str) or value not in words:
        raise RecordError(name, f"must be one of {', '.join(sorted(words))}, got {shown(value)}")
    return value


def _cleaned(name: str, value: Any) -> Any:
    """Return a value with the secrets in it masked. Raises RecordError for one that is nested without end."""
    try:
        return clean(value, max_bytes=sys.maxsize, max_depth=_LEVELS)
    except RecursionError:
        raise RecordError(name, "is nested too deeply, 250 levels may be kept") from None
