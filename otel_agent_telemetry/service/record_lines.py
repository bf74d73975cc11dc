"""Lines of a journal, as a request brings them, and what each becomes in the database.

The body is the bytes of a journal file or a part of one: lines of the `wire` format, `run`,
`event` and `span`, each ended by LF. Each line stands for itself. What breaks a rule is refused
with the number of its line, and never its neighbours; a torn line gives what can be believed of
it, as for every other reader of a journal, and is counted.

A run's state follows the rules of `run_bodies`. Values of events and steps were bounded and
masked where they were recorded; that a sender says so is no reason to believe it, so they are
masked once more here.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from otel_agent_telemetry.clock import parse_iso
from otel_agent_telemetry.column_checks import check_column, check_time, shown
from otel_agent_telemetry.columns import MAX_COUNT, Fields
from otel_agent_telemetry.deletion import MARK_EVENTS, PURGED_EVENT
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.model import CommitLink, RunEvent, RunSpan
from otel_agent_telemetry.redaction import clean, kept_name
from otel_agent_telemetry.service.responses import RequestError
from otel_agent_telemetry.service.run_bodies import run_from_body
from otel_agent_telemetry.state_plan import AS_STORED
from otel_agent_telemetry.storage.steps import EventRow, SpanRow
from otel_agent_telemetry.storage.store import WriteBatch
from otel_agent_telemetry.wire import BECAME_RUN, COMMIT_EVENT, EVENT, LINE_HEAD, RUN, SPAN, Line, read_line

MAX_LINES: Final = 10_000
"""Lines of one request; a limit beside that in bytes, because each may cost a row."""
_is_writer: Final = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII).fullmatch
_KINDS: Final = frozenset({"internal", "server", "client", "producer", "consumer"})
_STATUSES: Final = frozenset({"running", "unset", "ok", "error"})
_LEVELS: Final = 256
_NOT_OF_STATE: Final = frozenset({"record_type", "writer", "seq"})
_TIME: Final = AS_STORED["start_time"]

Item = Fields | EventRow | SpanRow | CommitLink
"""What one record is stored as: a run's state, an event, a step's state, or an association."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A line that cannot be stored: its number, from 1, and why."""

    line: int
    reason: str


@dataclass(slots=True)
class RecordLines:
    """The lines of one request. `items` are what is to be stored, with the number of its line."""

    lines: int = 0
    torn: int = 0
    items: list[tuple[int, Item]] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)

    def refuse(self, line: int, reason: str) -> None:
        """Note that a line cannot be stored. A reason may quote a lone surrogate, which JSON cannot carry."""
        self.refused.append(Refused(line, reason.encode("utf-8", "replace").decode()))

    def counts(self) -> Counter[str]:
        """Return how many records of each type the lines hold, without refused lines."""
        refused = {one.line for one in self.refused}
        return Counter(_type_of(item) for line, item in self.items if line not in refused)


def _type_of(item: Item) -> str:
    """Return the name under which an item is counted."""
    if isinstance(item, CommitLink):
        return "commits"
    return "events" if isinstance(item, EventRow) else "spans" if isinstance(item, SpanRow) else "runs"


def parse_lines(body: bytes) -> RecordLines:
    """Return what the lines of a body hold. Raises RequestError 413 for too many lines.

    Everything that is wrong with a single line is in `refused`.
    """
    # Blank lines count here: a body of nothing else would become a list eight times its size.
    if body.count(b"\n") > MAX_LINES:
        raise RequestError(413, f"a request may have {MAX_LINES} lines; send less at once")
    found = RecordLines()
    for number, raw in enumerate(body.split(b"\n"), start=1):
        if raw and not raw.isspace():
            found.lines += 1
            _parse_line(found, number, raw)
    return found


def batch_of(items: Iterable[tuple[int, Item]]) -> WriteBatch:
    """Return what writes items.

    Commits, events and steps are written after the states, within one transaction.
    """
    states: list[Fields] = []
    links: list[CommitLink] = []
    lines: list[EventRow | SpanRow] = []
    for _, item in items:
        if isinstance(item, CommitLink):
            links.append(item)
        elif isinstance(item, (EventRow, SpanRow)):
            lines.append(item)
        else:
            states.append(item)
    return WriteBatch(states, links, lines=lines)


def _parse_line(found: RecordLines, number: int, raw: bytes) -> None:
    """Add what a line holds to `found`, or why it is refused."""
    read = read_line(raw)
    # A whole record begins a line, so what has no beginning is no line that was cut short.
    if not read.records and LINE_HEAD not in raw:
        found.refuse(number, "is no line of a journal: it begins with its record_type")
        return
    found.torn += read.torn
    for record in read.records:
        try:
            found.items += [(number, item) for item in _items_of(record)]
        except RecordError as problem:
            found.refuse(number, str(problem))


def _items_of(record: Line) -> Iterator[Item]:
    """Yield what a record is stored as. Raises RecordError."""
    kind = record["record_type"]
    if kind == RUN:
        yield run_from_body({name: value for name, value in record.items() if name not in _NOT_OF_STATE})
    elif kind == SPAN:
        yield _step_of(record)
    elif kind == EVENT:
        # A deletion is asked for by a call of its own, with its own permission.
        if record.get("event_type") in (*MARK_EVENTS, PURGED_EVENT):
            return
        if record.get("event_type") == COMMIT_EVENT:
            yield CommitLink.from_event(record)
        yield _event_of(record)
    else:
        raise RecordError("record_type", f"must be {RUN}, {EVENT} or {SPAN}, got {shown(kind)}")


def _event_of(record: Line) -> EventRow:
    """Return the event of a line. Raises RecordError."""
    event_type = record.get("event_type")
    if not isinstance(event_type, str) or not event_type:
        raise RecordError("event_type", f"must be text, got {shown(event_type)}")
    # A commit association names its run by the run id alone: whoever makes it need not know more.
    has_run = event_type != COMMIT_EVENT or record.get("event_id")
    event = RunEvent(
        event_id=_text(record, "event_id") if has_run else "",
        run_id=_text(record, "run_id"),
        event_type=kept_name(event_type),
        timestamp=_time(record, "timestamp"),
        payload=_cleaned("payload", record.get("payload")),
        trace_id=_text_or_none(record, "trace_id"),
        span_id=_text_or_none(record, "span_id"),
    )
    writer, number = _line_of(record)
    return EventRow(0, event, writer=writer, writer_seq=number)


def _step_of(record: Line) -> SpanRow:
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
