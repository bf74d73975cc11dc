"""Which of the spans with the same ids is a span's parent, and which run the spans below it belong to.

A span names its parent by trace and span id. Both repeat where an application seeds `random`,
which OpenTelemetry draws ids from: in each process, or in each turn of a loop. A *place* is one
of the spans with the same ids, identified by when it began. A span's parent is the place that
it is known to belong to (its sender sent both at once), else the last one that had begun when
the span began, else, where clocks differ, the first.

Owns reading what is stored of the spans and runs with given ids; writes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from sqlalchemy import Connection, Dialect, select

from otel_agent_telemetry.run_id import is_derived
from otel_agent_telemetry.storage.statements import Lookup, key_lookup, rows_of_keys
from otel_agent_telemetry.storage.steps import IS_RUN, NO_RUN, is_or_is_inside_call, parent_start_among
from otel_agent_telemetry.storage.tables import UNKNOWN_START, agent_runs, run_spans

Key = tuple[str, str]
"""`(trace_id, span_id)`, both in hex."""


class Place(NamedTuple):
    """One of the spans with the same ids, by its `start_time`."""

    key: Key
    start: str


class Places:
    """The known places of some keys, and the run of what is below each.

    `load` reads what is stored; `add_step` notes what the transaction is about to store.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._loaded: set[Key] = set()
        self._runs: defaultdict[Key, dict[str, str]] = defaultdict(dict)
        self._steps: defaultdict[Key, dict[str, str]] = defaultdict(dict)
        self._spans: defaultdict[Key, list[tuple[int, str]]] = defaultdict(list)
        self._calls: set[Place] = set()
        self._open: dict[tuple[Key, int], tuple[str, str]] = {}
        """(ids, start in ns) of a stored span without an end → its `start_time` and its run."""

    def load(self, keys: Iterable[Key]) -> None:
        """Read the stored spans and runs of those keys that were not read yet."""
        new = set(keys) - self._loaded
        if not new:
            return
        self._loaded |= new
        dialect = self._connection.dialect
        for trace_id, span_id, start_ns, start, event_id, kind, usage_json, end in rows_of_keys(
            self._connection, _find_spans(dialect), new
        ):
            key = (trace_id, span_id)
            self._spans[key].append((start_ns, start))
            # A run's own span is known by its run, read below; as a step it would hide that.
            self._steps[key].setdefault(start, NO_RUN if kind == IS_RUN else event_id)
            if end is None:
                self._open[key, start_ns] = (start, event_id)
            if kind != IS_RUN and is_or_is_inside_call(usage_json):
                self._calls.add(Place(key, start))
        for event_id, trace_id, span_id, start in rows_of_keys(self._connection, _find_runs(dialect), new):
            if is_derived(event_id):
                runs = self._runs[trace_id, span_id]
                # Two runs in one place, of a database that an older version wrote: any of them, but always the same.
                runs[start] = max(event_id, runs.get(start, NO_RUN))

    def is_stored(self, key: Key, start_ns: int, start_time: str) -> bool:
        """Return whether a span is stored, also from a journal, or by a version, that has its start in microseconds."""
        return any(
            stored_ns == start_ns or (stored_time == start_time and _is_in_microseconds(stored_ns))
            for stored_ns, stored_time in self._spans[key]
        )

    def take_open(self, key: Key, start_ns: int) -> str | None:
        """Forget a span that is stored without an end; return its run, "" for none, None for no such span."""
        if (found := self._open.pop((key, start_ns), None)) is None:
            return None
        start, event_id = found
        self._spans[key].remove((start_ns, start))
        # Forgotten with its place, so that the span with an end takes it as if it were the first.
        self._steps[key].pop(start, None)
        self._calls.discard(Place(key, start))
        return event_id

    def add_step(self, place: Place, event_id: str, *, is_call: bool = False) -> None:
        """Note that a span with a place of its own belongs to this run, "" while that is not known.

        `is_call`: whether it is a call of a model or a tool, or is inside one.
        """
        self._steps[place.key][place.start] = event_id
        if is_call:
            self._calls.add(place)

    def is_call(self, place: Place) -> bool:
        """Return whether what is below a place is inside a call of a model or a tool of the same run."""
        return place in self._calls and self.is_step(place)

    def add_run(self, place: Place, event_id: str) -> None:
        """Note that a span with a place of its own is a run."""
        self._runs[place.key][place.start] = event_id

    def remove_run(self, place: Place, event_id: str) -> None:
        """Note that a span which was a run is a step of this one."""
        self._runs[place.key].pop(place.start, None)
        self.add_step(place, event_id)

    def of_run(self, key: Key, event_id: str) -> Iterator[Place]:
        """Yield the place of a stored run."""
        return (Place(key, start) for start, of_run in self._runs[key].items() if of_run == event_id)

    def parent(self, key: Key, *, child_start: str, parent_start: str | None) -> Place | None:
        """Return which of the spans with the ids `key` is the parent of a span; None when none is known."""
        starts = self._runs[key].keys() | self._steps[key].keys()
        start = parent_start_among(starts, child_start=child_start, parent_start=parent_start)
        return None if start is None else Place(key, start)

    def run_below(self, place: Place) -> str:
        """Return the run of the spans below a place; "" when it is not known."""
        return self._runs[place.key].get(place.start) or self._steps[place.key].get(place.start, NO_RUN)

    def is_step(self, place: Place) -> bool:
        """Return whether a place is that of a span which is not known to be a run."""
        return place.start not in self._runs[place.key]

    def runs_below_before(self, place: Place) -> set[str]:
        """Return the runs that children of a place had while the place was unknown, besides none.

        Those of the places next to it, and the run that its span was a step of before it turned
        out to be a run.
        """
        before = {self._steps[place.key].get(place.start, NO_RUN)}
        # Only the neighbours: a new place can take children from the place before it or after it, and from no other.
        starts = sorted({place.start, *self._runs[place.key], *self._steps[place.key]})
        at = starts.index(place.start)
        for start in (*starts[max(at - 1, 0) : at], *starts[at + 1 : at + 2]):
            before.add(self.run_below(Place(place.key, start)))
        return before - {NO_RUN}

    def is_repeated(self, key: Key) -> bool:
        """Return whether there is more than one span with these ids."""
        return len(self._runs[key].keys() | self._steps[key].keys()) > 1


def _is_in_microseconds(start_ns: int) -> bool:
    """Return whether a start may have been cut to microseconds, as journals and version 7 have it."""
    return start_ns == UNKNOWN_START or start_ns % 1000 == 0


@lru_cache(maxsize=8)
def _find_spans(dialect: Dialect) -> Lookup:
    """Return the query for spans by trace id and span id."""
    columns = run_spans.c
    selected = select(
        *(columns.trace_id, columns.span_id, columns.start_ns, columns.start_time),
        *(columns.event_id, columns.is_run, columns.usage_json, columns.end_time),
    )
    return key_lookup(dialect, selected, (columns.trace_id, columns.span_id))


@lru_cache(maxsize=8)
def _find_runs(dialect: Dialect) -> Lookup:
    """Return the query for runs by trace id and span id."""
    columns = agent_runs.c
    selected = select(columns.event_id, columns.trace_id, columns.span_id, columns.start_time)
    return key_lookup(dialect, selected, (columns.trace_id, columns.span_id), columns.trace_id.is_not(None))
