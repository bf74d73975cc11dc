"""Read the list of runs that a browser shows: pages of a `ListQuery`, in any of its orders, at a bounded cost.

Runs are read newest first (with `ascending`, oldest first) by the index that fits best, some at a time, and each
part is tested by the row's number: so no query of a filter that matches little reads a million runs, and neither
database can choose a plan that does. After `MAX_SEARCHED` runs the search stops, and the page can say so and
continue there. The order by duration, tokens or cost is that of the newest runs which one search reads: by a column
the database sorts them, by cost they are sorted here.

A page continues after the place of a run, `Cursor(value, id)`, where the value is what the list is sorted by.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    and_,
    any_,
    func,
    literal,
    select,
    text,
    true,
    tuple_,
)

from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.storage.counts import count_kinds
from otel_agent_telemetry.storage.list_query import ListQuery, in_time, list_conditions, narrowest
from otel_agent_telemetry.storage.queries import MAX_COUNTED, StoredRun, costs_numbered, runs_numbered
from otel_agent_telemetry.storage.rows import Cursor
from otel_agent_telemetry.storage.run_filters import conditions_of, is_plumbing, newer_than, older_than
from otel_agent_telemetry.storage.statements import count_rows
from otel_agent_telemetry.storage.tables import agent_runs

MAX_SEARCHED: Final = 10_000
"""The most runs that one search reads."""
MAX_PRICED: Final = 500
"""The most runs that one search works the cost out for: a price takes as long as a dozen rows."""
COUNTED: Final = 1_000
"""Up to so many matches are counted where no count is kept."""
_FIRST_PART: Final = 200
_PART: Final = 2_000
_runs: Final = agent_runs.c
_TOKENS: Final[ColumnElement[int]] = _runs.input_tokens + _runs.output_tokens
_VALUES: Final[dict[str, ColumnElement[Any]]] = {"duration": _runs.duration_ms, "tokens": _TOKENS}
_NEWEST_FIRST: Final = (_runs.created_at.desc(), _runs.id.desc())
_OLDEST_FIRST: Final = (_runs.created_at, _runs.id)

Value = str | int | float


class Place(NamedTuple):
    """A run's place in a list: what it is sorted by, and its number in this database."""

    value: Value
    id: int

    def cursor(self) -> Cursor:
        """Return the place as a word of an address has it."""
        return Cursor(str(self.value), self.id)


class Count(NamedTuple):
    """How many runs match: exactly, or so many at least; `searched` where not all were searched, and how many were."""

    runs: int
    exact: bool
    searched: int | None = None


@dataclass(frozen=True, slots=True)
class ListPage:
    """A page of the list. `older` and `newer` are the places that the neighbouring pages continue after, if any.

    `stopped_at` is where the search ended before all was searched, and `searched` how many runs it read. `count`
    is None on later pages, except where it is kept.
    """

    runs: tuple[StoredRun, ...] = ()
    first: Cursor | None = None
    last: Cursor | None = None
    has_more: bool = False
    searched: int = 0
    stopped_at: Cursor | None = None
    count: Count | None = None


def page_of_list(connection: Connection, query: ListQuery, *, backwards: bool = False) -> ListPage:
    """Return the page after `query.cursor`, or with `backwards` the one before it; in the order of the list.

    Reads at most MAX_SEARCHED runs.

    `connection` reads one view. Raises RecordError for a cursor of another order.
    """
    count = _kept_count(connection, query)
    counts = count is None and query.cursor is None
    found = _Search(connection, query)
    found.find(max(query.limit, COUNTED if counts else 0) + 1, backwards=backwards)
    places = found.places[: query.limit]
    if backwards:
        places.reverse()
    stored = {run.id: run for run in runs_numbered(connection, [place.id for place in places])}
    return ListPage(
        # One that is deleted between the two reads is missing.
        runs=tuple(stored[place.id] for place in places if place.id in stored),
        first=places[0].cursor() if places else None,
        last=places[-1].cursor() if places else None,
        has_more=len(found.places) > query.limit,
        searched=found.searched,
        stopped_at=found.stopped_at,
        count=_counted(found) if counts else count,
    )


def place_of(query: ListQuery, run: StoredRun) -> Cursor | None:
    """Return a run's place in the list; None where it has none, because its cost is not known."""
    if query.asks_cost and run.record.cost_usd is None:
        return None
    return Place(_value_of(query, run.record), run.id).cursor()


def neighbour(connection: Connection, query: ListQuery, run: StoredRun, *, backwards: bool) -> RunRecord | None:
    """Return the run after a run in the list, with `backwards` the one before it, as far as one search finds it."""
    place = place_of(query, run)
    if place is None:
        return None
    page = page_of_list(connection, replace(query, cursor=place, limit=1), backwards=backwards)
    return page.runs[0].record if page.runs else None


def last_number(connection: Connection) -> int:
    """Return the number of the run that was stored last, 0 without any."""
    return int(connection.execute(select(func.max(_runs.id))).scalar() or 0)


def numbers_after(connection: Connection, number: int, limit: int) -> list[int]:
    """Return the numbers of the runs that were stored after one, in their order, at most `limit`."""
    selected = select(_runs.id).where(_runs.id > number).order_by(_runs.id).limit(limit)
    return list(connection.execute(selected).scalars())


def matching(connection: Connection, query: ListQuery, numbers: Sequence[int]) -> list[StoredRun]:
    """Return those of these runs that are in the list, newest first; a few hundred can be asked for."""
    found = runs_numbered(connection, list(_Search(connection, query).values(numbers)) if numbers else [])
    return sorted(found, key=lambda run: run.cursor, reverse=True)


class _Search:
    """One search: what it found so far, in the order in which it reads, and how much it has read."""

    def __init__(self, connection: Connection, query: ListQuery) -> None:
        self._connection = connection
        self._query = query
        # As the value of one expression: either database would take an index of a plain condition, and read all
        # runs that meet it.
        self._meets = and_(true(), *list_conditions(connection, query)).is_(true())
        self._priced = 0
        self.places: list[Place] = []
        self.searched = 0
        self.stopped_at: Cursor | None = None

    def find(self, wanted: int, *, backwards: bool) -> None:
        """Find the first `wanted` places after the query's cursor, with `backwards` before it."""
        down = self._query.ascending == backwards
        if self._query.sort == "started":
            self._read(self._query.cursor, wanted, down=down)
            return
        if not self._query.asks_cost:
            self._sort(wanted, down=down)
            return
        self._read(None, sys.maxsize, down=True)
        # Costs are in no row, so all that was searched is sorted, and the page cut out of it.
        places = sorted(self.places, reverse=down)
        if self._query.cursor is not None:
            after = Place(_value_in(self._query.cursor), self._query.cursor.id)
            places = [place for place in places if (place < after if down else place > after)]
        self.places = places[:wanted]

    def _sort(self, wanted: int, *, down: bool) -> None:
        """Find the first places in the order of a column, among the newest runs that the best index leads to."""
        newest = self._led().order_by(*_NEWEST_FIRST)
        value = _VALUES[self._query.sort]
        tested = newest.add_columns(value.label("value"), self._meets.label("meets")).limit(MAX_SEARCHED).subquery()
        columns = (tested.c.value, tested.c.id)
        selected = select(*columns).where(tested.c.meets).order_by(*((c.desc() if down else c) for c in columns))
        if self._query.cursor is not None:
            after = Place(_value_in(self._query.cursor), self._query.cursor.id)
            selected = selected.where(tuple_(*columns) < after if down else tuple_(*columns) > after)
        self.places = [Place(*row) for row in self._connection.execute(selected.limit(wanted))]
        self.searched = count_rows(self._connection, newest.limit(MAX_SEARCHED + 1).subquery())
        if self.searched > MAX_SEARCHED:
            self.searched = MAX_SEARCHED
            last = self._connection.execute(newest.offset(MAX_SEARCHED - 1).limit(1)).one()
            self.stopped_at = Place(*last).cursor()

    def _read(self, after: Cursor | None, wanted: int, *, down: bool) -> None:
        """Read runs in the order of creation until enough match or the search has read its most."""
        last: Place | None = None
        for part in self._walk(after, down=down):
            # Asked only where there is another part: a search that has read all has not been cut off.
            if last is not None and (self.searched >= MAX_SEARCHED or self._priced >= MAX_PRICED):
                self.stopped_at = last.cursor()
                return
            last = part[-1]
            values = self.values([place.id for place in part])
            self.places += [Place(values[place.id], place.id) for place in part if place.id in values]
            self.searched += len(part)
            if len(self.places) >= wanted:
                return

    def _walk(self, after: Cursor | None, *, down: bool) -> Iterator[list[Place]]:
        """Yield the places by creation after one, in parts that grow, of the runs that the best index leads to."""
        selected = self._led().order_by(*(_NEWEST_FIRST if down else _OLDEST_FIRST))
        size = _FIRST_PART
        while True:
            rest = selected if after is None else selected.where(older_than(after) if down else newer_than(after))
            part = [Place(*row) for row in self._connection.execute(rest.limit(size)).all()]
            if part:
                yield part
            if len(part) < size:
                return
            # Small parts first: most searches have their page after a few hundred runs.
            after, size = part[-1].cursor(), _FIRST_PART if self._query.asks_cost else _PART

    def _led(self) -> Select[Any]:
        """Return the statement for the places of the runs that the best index leads to."""
        led = (*narrowest(self._connection, self._query), *in_time(self._query))
        return select(_runs.created_at, _runs.id).where(*led)

    def values(self, numbers: Sequence[int]) -> Mapping[int, Value]:
        """Return number → value in the list's order, of those of these runs that match."""
        if self._query.asks_cost:
            return self._costly(numbers)
        value = _VALUES.get(self._query.sort, _runs.created_at)
        return dict(self._connection.execute(self._tested(select(_runs.id, value), numbers)).all())

    def _costly(self, numbers: Sequence[int]) -> Mapping[int, Value]:
        """Return the same where the cost decides; it is worked out as where a run is shown."""
        matching = self._connection.execute(self._tested(select(_runs.id), numbers)).scalars().all()
        # Counted whether or not a price is known: looking for one takes the same time.
        self._priced += len(matching)
        least, most = self._query.cost_from or 0, self._query.cost_to
        costs = costs_numbered(self._connection, matching)
        wanted = {run: cost for run, cost in costs.items() if least <= cost and (most is None or cost <= most)}
        if self._query.sort == "cost" or not wanted:
            return wanted
        value = _VALUES.get(self._query.sort, _runs.created_at)
        return dict(self._connection.execute(self._numbered(select(_runs.id, value), list(wanted))).all())

    def _tested(self, selected: Select[Any], numbers: Sequence[int]) -> Select[Any]:
        """Return the statement for those of these runs that meet the conditions; each is found by its number."""
        return self._numbered(selected, numbers).where(self._meets)

    def _numbered(self, selected: Select[Any], numbers: Sequence[int]) -> Select[Any]:
        """Return the statement for these runs."""
        if self._connection.dialect.name == "sqlite":
            wanted = text("SELECT value FROM json_each(:numbers)").bindparams(numbers=json.dumps(list(numbers)))
            return selected.where(_runs.id.in_(wanted))
        return selected.where(_runs.id == any_(literal(list(numbers), ARRAY(BigInteger))))


def _value_in(cursor: Cursor) -> float:
    """Return the number that a list is sorted by at a place. Raises RecordError for the place of another order."""
    try:
        return float(cursor.time)
    except ValueError:
        raise RecordError("cursor", "is not of a list in this order") from None


def _value_of(query: ListQuery, record: RunRecord) -> Value:
    """Return what a run is sorted by; the cost of one is known here."""
    if query.sort == "duration":
        return record.duration_ms
    if query.sort == "tokens":
        return record.input_tokens + record.output_tokens
    return record.cost_usd or 0.0 if query.sort == "cost" else record.created_at


def _counted(found: _Search) -> Count:
    """Return the count that a first search gives."""
    runs = len(found.places)
    if runs > COUNTED:
        return Count(COUNTED, exact=False)
    return Count(runs, found.stopped_at is None, None if found.stopped_at is None else found.searched)


def _kept_count(connection: Connection, query: ListQuery) -> Count | None:
    """Return the count from the kept ones, where the query asks for nothing that they do not know."""
    if not query.is_counted or query.plumbing:
        return None
    wanted = (query.agent_name, query.job_type, query.status)
    kinds = count_kinds(connection)
    runs = sum(number for kind, number in kinds.items() if _is_kind(kind, wanted))
    if query.plumbing is None:
        return Count(runs, exact=True)
    # The kept counts know agent, job and status of a run, but not whether it is plumbing.
    # One value, as in `_tested`: the index of plumbing has these columns, and one of agents would read their rows.
    kind = and_(true(), *conditions_of(connection, replace(query, plumbing=None))).is_(true())
    counted = select(_runs.id).where(is_plumbing(), kind).limit(MAX_COUNTED)
    hidden = count_rows(connection, counted.subquery())
    return None if hidden >= MAX_COUNTED else Count(max(runs - hidden, 0), exact=True)


def _is_kind(kind: Sequence[str], wanted: Sequence[str | None]) -> bool:
    """Return whether a run of this kind is asked for."""
    return all(asked is None or asked == value for value, asked in zip(kind, wanted, strict=True))
