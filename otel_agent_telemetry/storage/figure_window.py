"""What the runs of any time used and did, by agent, model, session, user, repository or label.

A run counts from its creation until the time has passed, with all that it has used so far. The sums of whole
hours and days come from the figures that are kept (`figures`); the first and the last part of an hour, and
hours that wait for their refresh, are added up from their runs. A time of more than three days, of which
hours are not kept, begins at midnight (UTC).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from sqlalchemy import Connection, func, select

from otel_agent_telemetry.clock import iso_utc, parse_iso
from otel_agent_telemetry.storage.figure_queries import (
    greatest_sessions,
    greatest_users,
    spending_by_model,
    spending_by_name,
)
from otel_agent_telemetry.storage.figure_refresh import hours_since
from otel_agent_telemetry.storage.figures import DAY, HOUR, Figures, UsageKey, figures_where
from otel_agent_telemetry.storage.priced_sums import Spending
from otel_agent_telemetry.storage.run_filters import is_running
from otel_agent_telemetry.storage.tables import agent_runs, changed_hours, work_periods
from otel_agent_telemetry.storage.usage_sums import Key, Sums
from otel_agent_telemetry.storage.work_sums import NO_WORK, Work

_HOURS_KEPT_S: Final = 3 * 86_400
_NS: Final = 1_000_000_000
_HOUR_NS: Final = 3_600 * _NS
_created: Final = agent_runs.c.created_at
_work: Final = work_periods.c


@dataclass(frozen=True, slots=True)
class Parts:
    """A time cut into what is kept and what is not. `kept`: hours and days; `ranges`: times, the first one excluded."""

    kept: tuple[str, ...]
    ranges: tuple[tuple[str, str], ...]
    since: str


class FigureWindow:
    """The figures of one time: those that are kept for some periods, and those that were read for it."""

    def __init__(
        self, connection: Connection, kept: Sequence[str], read: Sequence[Figures] = (), *, day: str = ""
    ) -> None:
        """Take the figures of hours and days that are kept, and others; `day`: whose prices are those of the others."""
        self._connection = connection
        self._kept = kept
        self._read = read
        self._day = day

    @classmethod
    def between(cls, connection: Connection, since_ns: int, at_ns: int, *, with_open: bool) -> FigureWindow:
        """Return the exact figures of a time. Reads those that are not kept.

        `with_open`: whether runs that are still open count although they were created before it.
        """
        parts = parts_of(connection, since_ns, at_ns)
        read = [figures_where(connection, _created > first, _created <= last) for first, last in parts.ranges]
        if with_open:
            read.append(figures_where(connection, is_running(), _created <= parts.since))
        return cls(connection, parts.kept, read, day=iso_utc(at_ns)[:DAY])

    def spending(self, dimension: str, names: Sequence[str] | None = None) -> dict[str, Spending]:
        """Return name → what the runs used and cost; of some names, or of all that used anything."""
        found = spending_by_name(self._connection, dimension, self._kept, names) if self._kept else {}
        wanted = None if names is None else set(names)
        for key, sums in self._usage(dimension):
            if wanted is None or key.name in wanted:
                found.setdefault(key.name, Spending()).add(self._day, Key(*key[2:]), sums)
        return found

    def by_model(self) -> dict[str, Spending]:
        """Return model, "" for none that is named, → what all runs used of it."""
        found = spending_by_model(self._connection, self._kept) if self._kept else {}
        for key, sums in self._usage("agent"):
            found.setdefault(key.model, Spending()).add(self._day, Key(*key[2:]), sums)
        return found

    def _usage(self, dimension: str) -> Iterator[tuple[UsageKey, Sums]]:
        """Yield the usage that was read; priced as of today, since it was created in the last hours, or came late."""
        for figures in self._read:
            yield from ((key, sums) for key, sums in figures.usage.items() if key.dimension == dimension)

    def work(self, dimension: str, names: Sequence[str] | None = None) -> dict[str, Work]:
        """Return name → what its runs did; of some names, or of all that had a run."""
        found: dict[str, Work] = {}
        if self._kept:
            wanted = [_work.dimension == dimension, _work.period.in_(self._kept)]
            wanted += [] if names is None else [_work.name.in_(names)]
            summed = select(_work.name, *(func.sum(_work[name]) for name in Work._fields)).where(*wanted)
            for name, *sums in self._connection.execute(summed.group_by(_work.name)):
                found[name] = Work(*map(int, sums))
        for figures in self._read:
            for (of, name), work in figures.work.items():
                if of == dimension and (names is None or name in names):
                    found[name] = found.get(name, NO_WORK).plus(work)
        return found

    def some_names(self, dimension: str, *, limit: int) -> list[str]:
        """Return names of a dimension, of many those that used the most tokens; of sessions few more than `limit`."""
        found: dict[str, None] = {}
        if self._kept:
            is_session = dimension == "session"
            find = greatest_sessions if is_session else partial(greatest_users, dimension=dimension)
            found = dict.fromkeys(find(self._connection, periods=self._kept, limit=limit))
            if len(found) < limit:
                others = select(_work.name).where(_work.dimension == dimension, _work.period.in_(self._kept))
                # There may be as many sessions as runs: they are not looked through for those that differ.
                others = others.limit(limit) if is_session else others.distinct().limit(limit)
                found |= dict.fromkeys(self._connection.execute(others).scalars())
        for figures in self._read:
            found |= dict.fromkeys(name for of, name in figures.work if of == dimension)
        return list(found)


def begin_ns(over_s: float, at_ns: int) -> int:
    """Return when a time that ends at an instant begins: at midnight where it is longer than three days."""
    since_ns = at_ns - int(over_s * _NS)
    return since_ns - since_ns % (24 * _HOUR_NS) if over_s > _HOURS_KEPT_S else since_ns


def leaves_ns(instant_ns: int, over_s: float) -> int:
    """Return the first instant whose time, of so many seconds, does not reach back to another instant any more."""
    if over_s <= _HOURS_KEPT_S:
        return instant_ns + int(over_s * _NS)
    # Such a time begins at midnight: it leaves a whole day at once.
    day_ns = 24 * _HOUR_NS
    return -(-instant_ns // day_ns) * day_ns + int(over_s * _NS)


def parts_of(connection: Connection, since_ns: int, at_ns: int) -> Parts:
    """Return the parts of a time."""
    first_kept = hours_since(connection)
    since, until = iso_utc(since_ns), iso_utc(at_ns)
    changed = select(changed_hours.c.hour).where(changed_hours.c.hour.between(since[:DAY], f"{until[:HOUR]}~"))
    # On PostgreSQL an hour has a line for each of its changes.
    stale = set(connection.execute(changed.distinct()).scalars())
    stale_days = {hour[:DAY] for hour in stale}
    kept: list[str] = []
    ranges: list[tuple[str, str]] = []
    for day, hours in _by_day(-(-since_ns // _HOUR_NS) * _HOUR_NS, at_ns):
        # An old day is taken as it is kept, even while it waits: its hours are gone, and its runs may be a million.
        if len(hours) == 24 and (day not in stale_days or day < first_kept):  # noqa: PLR2004 - a whole day
            kept.append(day)
        else:
            kept += [hour for hour in hours if hour not in stale]
            ranges += [_range(hour) for hour in hours if hour in stale]
    return Parts(tuple(kept), (*_joined([*_edges(since_ns, at_ns), *ranges]),), since)


def _by_day(first_ns: int, at_ns: int) -> Iterable[tuple[str, list[str]]]:
    """Return each day between two instants with those of its hours that lie wholly between them."""
    days: dict[str, list[str]] = {}
    for begins_ns in range(first_ns, at_ns - _HOUR_NS + 1, _HOUR_NS):
        hour = iso_utc(begins_ns)[:HOUR]
        days.setdefault(hour[:DAY], []).append(hour)
    return days.items()


def _edges(since_ns: int, at_ns: int) -> list[tuple[str, str]]:
    """Return the part of an hour with which a time begins, and the one with which it ends."""
    first_hour_ns = -(-since_ns // _HOUR_NS) * _HOUR_NS
    last_hour_ns = at_ns - at_ns % _HOUR_NS
    if first_hour_ns > last_hour_ns:  # within one hour
        return [(iso_utc(since_ns), iso_utc(at_ns))]
    # A run of the full hour itself belongs to that hour, whose sums are kept: ranges leave their first instant out.
    edges = [(iso_utc(since_ns), iso_utc(first_hour_ns - 1_000)), (iso_utc(last_hour_ns - 1_000), iso_utc(at_ns))]
    return [edge for edge in edges if edge[0] < edge[1]]


def _range(hour: str) -> tuple[str, str]:
    """Return an hour as a range, whose first instant is not part of it."""
    begins_ns = parse_iso(f"{hour}:00:00+00:00")
    return iso_utc(begins_ns - 1_000), iso_utc(begins_ns + _HOUR_NS - 1_000)


def _joined(ranges: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return ranges in their order, those that meet as one: each is a statement."""
    found: list[tuple[str, str]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found
