"""The steps of one run for its timeline: narrow rows of all of them, and one step with all that it holds.

A run may have many thousand steps, with attributes of any size. The timeline needs their ids,
times and words, so it reads these columns alone, and of a bounded number of steps.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, and_, case, func, or_, select

from otel_agent_telemetry.clock import parse_iso
from otel_agent_telemetry.model import RunSpan
from otel_agent_telemetry.storage.statements import count_rows
from otel_agent_telemetry.storage.steps import IS_RUN, span_of_row
from otel_agent_telemetry.storage.tables import STEP_HAS_NO_LINE, run_spans

ERROR: Final = "error"
MAX_STEPS: Final = 20_000
"""Steps of a run that are read at once."""
MAX_COUNTED: Final = 1_000_000
_MAX_ATTRIBUTES: Final = 64 << 10
"""Characters of attributes up to which they are read to see what a step is."""
_MAX_MESSAGE: Final = 300
_spans: Final = run_spans.c


class StepRow(NamedTuple):
    """A step as a row of the timeline. `id` is the number of its row, which no other step of this database has."""

    id: int
    span_id: str
    parent_span_id: str | None
    name: str
    status: str
    start_time: str
    end_time: str | None
    duration_ms: int
    start_ns: int
    is_run: int
    usage_json: str | None

    @property
    def failed(self) -> bool:
        """Return whether it ended with an error."""
        return self.status == ERROR


class StepColumns(NamedTuple):
    """What places the steps of a run in its timeline: a column each, steps in order of their start.

    `lasts_ms` is None for a step that has not ended.
    """

    numbers: Sequence[int] = ()
    span_ids: Sequence[str] = ()
    parent_ids: Sequence[str | None] = ()
    start_ns: Sequence[int] = ()
    lasts_ms: Sequence[int | None] = ()
    failed: Sequence[bool] = ()


_NARROW: Final = tuple(_spans[name] for name in StepRow._fields)
_PLACE: Final = (
    _spans.start_ns,
    _spans.id,
    _spans.span_id,
    _spans.parent_span_id,
    case((_spans.end_time.is_not(None), _spans.duration_ms)).label("lasts_ms"),
    (_spans.status == ERROR).label("failed"),
    case((_spans.start_ns < 0, _spans.start_time)).label("start_time"),
)
_BY_START: Final = itemgetter(0, 1)


def _steps_of(event_id: str) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions for the steps of a run; a step of a journal that has turned into a run is none."""
    return _spans.event_id == event_id, or_(_spans.is_run != IS_RUN, STEP_HAS_NO_LINE)


def step_columns(connection: Connection, event_id: str, *, limit: int = MAX_STEPS) -> StepColumns:
    """Return what places the steps of a run, of the `limit` first ones where it has more."""
    selected = select(*_PLACE).where(*_steps_of(event_id))
    # Sorted here: the database would sort ten thousand rows by a text, which takes longer than to read them.
    rows: Sequence[Any] = connection.execute(selected.limit(limit + 1)).all()
    if len(rows) > limit:
        rows = connection.execute(selected.order_by(_spans.start_time, _spans.id).limit(limit)).all()
    if not rows:
        return StepColumns()
    if any(row[-1] is not None for row in rows):  # a start that has no number in its row
        rows = [(row[0] if row[-1] is None else parse_iso(row[-1]), *row[1:]) for row in rows]
    starts, numbers, span_ids, parent_ids, lasts_ms, failed, _ = zip(*sorted(rows, key=_BY_START), strict=True)
    return StepColumns(numbers, span_ids, parent_ids, starts, lasts_ms, failed)


def starts_of_parents(connection: Connection, event_id: str) -> dict[int, int]:
    """Return when the parent of a step began, in nanoseconds since 1970, by the number of the step's row, where known.

    Needed only where span ids repeat within a run.
    """
    selected = select(_spans.id, _spans.parent_start).where(*_steps_of(event_id), _spans.parent_start.is_not(None))
    return {row.id: parse_iso(row.parent_start) for row in connection.execute(selected.limit(MAX_STEPS))}


def step_names(connection: Connection, event_id: str) -> dict[int, str]:
    """Return the names of a run's steps by the number of their row, of MAX_STEPS steps at most."""
    selected = select(_spans.id, _spans.name).where(*_steps_of(event_id)).limit(MAX_STEPS)
    return {row.id: row.name for row in connection.execute(selected)}


def steps_after(connection: Connection, event_id: str, after: int, *, limit: int) -> list[StepRow]:
    """Return the steps of a run whose row was added after the row of number `after`, in that order."""
    selected = select(*_NARROW).where(*_steps_of(event_id), _spans.id > after).order_by(_spans.id).limit(limit)
    return _rows(connection, selected)


def steps_numbered(connection: Connection, event_id: str, numbers: Collection[int]) -> list[StepRow]:
    """Return those of a run's steps whose rows have these numbers, a few hundred at most, in no order."""
    # By number alone: with the run as a condition too, SQLite would go through all steps of the run.
    rows = connection.execute(select(*_NARROW, _spans.event_id).where(_spans.id.in_(numbers)))
    return [StepRow._make(row[:-1]) for row in rows if row[-1] == event_id]


def count_steps(connection: Connection, event_id: str) -> int:
    """Return how many steps a run has; at most MAX_COUNTED are counted."""
    return count_rows(connection, select(_spans.id).where(*_steps_of(event_id)).limit(MAX_COUNTED).subquery())


def last_step_number(connection: Connection, event_id: str) -> int:
    """Return the highest row number of a run's steps, 0 without any."""
    return int(connection.execute(select(func.max(_spans.id)).where(*_steps_of(event_id))).scalar() or 0)


def open_steps(connection: Connection, event_id: str, *, limit: int) -> list[int]:
    """Return the row numbers of the last steps of a run that have not ended, at most `limit`."""
    # The last ones: of a program that loses its spans the first may stay open for ever.
    selected = select(_spans.id).where(*_steps_of(event_id), _spans.end_time.is_(None))
    return list(connection.execute(selected.order_by(_spans.id.desc()).limit(limit)).scalars())


def numbers_of_spans(connection: Connection, event_id: str, span_ids: Collection[str]) -> dict[str, int]:
    """Return the row numbers of a run's steps by their span id, of several with one id the last."""
    selected = select(_spans.span_id, _spans.id).where(*_steps_of(event_id), _spans.span_id.in_(span_ids))
    return {row.span_id: row.id for row in connection.execute(selected.order_by(_spans.id))}


def attributes_of(connection: Connection, *conditions: ColumnElement[bool]) -> Iterator[tuple[int, str]]:
    """Yield number and attributes, as JSON text, of the steps that meet conditions and came without usage.

    Those of 64 KiB and more are left out: what a step is stands in short attributes.
    """
    is_small = func.length(_spans.attributes_json) < _MAX_ATTRIBUTES
    selected = select(_spans.id, _spans.attributes_json).where(*conditions, _spans.usage_json.is_(None), is_small)
    yield from ((row.id, row.attributes_json) for row in connection.execute(selected.limit(MAX_STEPS)))


def has_number(numbers: Collection[int]) -> ColumnElement[bool]:
    """Return the condition that the row of a step has one of these numbers, a few hundred at most."""
    return _spans.id.in_(numbers)


def is_of_run(event_id: str) -> ColumnElement[bool]:
    """Return the condition for the steps of a run."""
    return and_(*_steps_of(event_id))


def usages_of(connection: Connection, event_id: str) -> Iterator[tuple[int, str, int]]:
    """Yield number, usage and `is_run` of a run's steps that came with their usage, of MAX_STEPS steps at most."""
    selected = select(_spans.id, _spans.usage_json, _spans.is_run)
    rows = connection.execute(selected.where(*_steps_of(event_id), _spans.usage_json.is_not(None)).limit(MAX_STEPS))
    yield from ((row.id, row.usage_json, row.is_run) for row in rows)


def messages_of(connection: Connection, numbers: Collection[int]) -> dict[int, str]:
    """Return the beginnings of the status messages of steps by the number of their row, where they have one."""
    message = func.substr(_spans.status_message, 1, _MAX_MESSAGE)
    selected = select(_spans.id, message).where(_spans.id.in_(numbers))
    return {number: text for number, text in connection.execute(selected) if text} if numbers else {}


def find_step(connection: Connection, event_id: str, number: int) -> tuple[StepRow, RunSpan] | None:
    """Return a step of a run by the number of its row, with all that it holds; None when there is none."""
    selected = select(run_spans).where(*_steps_of(event_id), _spans.id == number)
    row = connection.execute(selected).first()
    if row is None:
        return None
    values = row._mapping  # noqa: SLF001 - SQLAlchemy's own name for it
    return StepRow._make(values[name] for name in StepRow._fields), span_of_row(row)


def _rows(connection: Connection, selected: Select[Any]) -> list[StepRow]:
    """Return the rows of a statement over the narrow columns."""
    return [StepRow._make(row) for row in connection.execute(selected)]
