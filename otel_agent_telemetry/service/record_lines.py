"""Lines of a journal, as a request brings them, and what each becomes in the database.

The body is the bytes of a journal file or a part of one: lines of the `wire` format, `run`,
`event` and `span`, each ended by LF. Each line stands for itself. What breaks a rule is refused
with the number of its line, and never its neighbours; a torn line gives what can be believed of
it, as for every other reader of a journal, and is counted.

A run's state follows the rules of `run_bodies`, an event or a step those of `storage.line_rows`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from otel_agent_telemetry.column_checks import shown
from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.errors import LineError, RecordError
from otel_agent_telemetry.model import CommitLink
from otel_agent_telemetry.service.responses import RequestError
from otel_agent_telemetry.service.run_bodies import run_from_body
from otel_agent_telemetry.storage.line_rows import NOT_STORED, UsualEvents, event_row, step_row
from otel_agent_telemetry.storage.steps import EventLine, SpanRow
from otel_agent_telemetry.storage.store import WriteBatch
from otel_agent_telemetry.wire import COMMIT_EVENT, EVENT, LINE_HEAD, RUN, SPAN, Line, decode_line, read_line

MAX_LINES: Final = 10_000
"""Lines of one request; a limit beside that in bytes, because each may cost a row."""
_NOT_OF_STATE: Final = frozenset({"record_type", "writer", "seq"})

Item = Fields | EventLine | SpanRow | CommitLink
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
    return "events" if isinstance(item, EventLine) else "spans" if isinstance(item, SpanRow) else "runs"


def parse_lines(body: bytes) -> RecordLines:
    """Return what the lines of a body hold. Raises RequestError 413 for too many lines.

    Everything that is wrong with a single line is in `refused`.
    """
    # Blank lines count here: a body of nothing else would become a list eight times its size.
    if body.count(b"\n") > MAX_LINES:
        raise RequestError(413, f"a request may have {MAX_LINES} lines; send less at once")
    found, events = RecordLines(), UsualEvents()
    for number, raw in enumerate(body.split(b"\n"), start=1):
        if raw and not raw.isspace():
            found.lines += 1
            _parse_line(found, events, number, raw)
    found.items += events.rows()
    return found


def batch_of(items: Iterable[tuple[int, Item]]) -> WriteBatch:
    """Return what writes items.

    Commits, events and steps are written after the states, within one transaction.
    """
    states: list[Fields] = []
    links: list[CommitLink] = []
    lines: list[EventLine | SpanRow] = []
    for _, item in items:
        if isinstance(item, CommitLink):
            links.append(item)
        elif isinstance(item, (EventLine, SpanRow)):
            lines.append(item)
        else:
            states.append(item)
    return WriteBatch(states, links, lines=lines)


def _parse_line(found: RecordLines, events: UsualEvents, number: int, raw: bytes) -> None:
    """Add what a line holds to `found` or to `events`, or why it is refused."""
    try:
        records: tuple[Line, ...] = (decode_line(raw),)
    except LineError:
        records = _believed(found, number, raw)
    for record in records:
        if record["record_type"] == EVENT and events.take(number, record):
            continue
        try:
            found.items += [(number, item) for item in _items_of(record)]
        except RecordError as problem:
            found.refuse(number, str(problem))


def _believed(found: RecordLines, number: int, raw: bytes) -> tuple[Line, ...]:
    """Return what can be believed of a line that is not whole; note that it is torn, or refuse it."""
    # A whole record begins a line, so what has no beginning is no line that was cut short.
    if LINE_HEAD not in raw:
        found.refuse(number, "is no line of a journal: it begins with its record_type")
        return ()
    read = read_line(raw)
    found.torn += read.torn
    return read.records


def _items_of(record: Line) -> Iterator[Item]:
    """Yield what a record is stored as. Raises RecordError."""
    kind = record["record_type"]
    if kind == RUN:
        yield run_from_body({name: value for name, value in record.items() if name not in _NOT_OF_STATE})
    elif kind == SPAN:
        yield step_row(record)
    elif kind == EVENT:
        if record.get("event_type") in NOT_STORED:
            return
        if record.get("event_type") == COMMIT_EVENT:
            yield CommitLink.from_event(record)
        yield event_row(record)
    else:
        raise RecordError("record_type", f"must be {RUN}, {EVENT} or {SPAN}, got {shown(kind)}")
