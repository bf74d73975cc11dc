"""What each rule reads of each of its subjects at an instant, from the runs as they are stored now.

The sums of a time come from `alert_windows`; single runs are those that are open, those that were open at
the look before, and those that have arrived since. A run that ended more than an hour ago, in an import
for example, is nobody's alarm any more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, func, literal, select, text

from otel_agent_telemetry.alert_judging import Reading
from otel_agent_telemetry.alert_rules import (
    ALL,
    COST,
    DURATION,
    FAILURES,
    LEAST_MEDIAN_RUNS,
    SILENCE,
    TOKENS,
    Rule,
)
from otel_agent_telemetry.clock import iso_utc, parse_iso
from otel_agent_telemetry.status import FAILED, TIMEOUT
from otel_agent_telemetry.storage.alert_facts import (
    NS,
    RunFact,
    arrived_facts,
    facts_of,
    facts_where,
    id_before,
    label_names,
    last_id,
    open_facts,
    past_of_agent,
    subjects_of,
)
from otel_agent_telemetry.storage.figure_queries import total
from otel_agent_telemetry.storage.figure_window import FigureWindow, begin_ns
from otel_agent_telemetry.storage.priced_sums import Spending
from otel_agent_telemetry.storage.run_filters import has_status
from otel_agent_telemetry.storage.statements import rows_with
from otel_agent_telemetry.storage.tables import agent_runs, run_events, run_spans, work_periods

LATE_S: Final = 3_600
"""Seconds after which the end of a run is no news."""
_AT_START_S: Final = 6 * 3_600
"""Runs that were created so long before the first look may have ended since the last service."""
_FAILED_AFTER_S: Final = 7 * 86_400
"""How long a run may have taken before it failed, to be counted when it does."""
_OVERLAP: Final = 1_000
"""Ids that are looked at again: PostgreSQL gives some before others that are committed first, SQLite gives those of
deleted runs again."""
_runs: Final = agent_runs.c
_SCOPE_COLUMNS: Final[dict[str, Any]] = {
    "agent": _runs.agent_name,
    "session": _runs.session_id,
    "user": _runs.user_id,
    "label": _runs.labels,
}


class Found(NamedTuple):
    """A reading of a rule, of which subject, and the run where it is of one."""

    rule: Rule
    subject: str
    reading: Reading
    run: RunFact | None = None


@dataclass(slots=True)
class Seen:
    """What the look before has seen, so that the next one finds the runs that have ended since."""

    last_id: int | None = None
    open_ids: set[str] = field(default_factory=set)


def readings(connection: Connection, rules: Sequence[Rule], at_ns: int, seen: Seen) -> Iterator[Found]:
    """Yield the reading of each subject that has one; `seen` becomes that of this look."""
    # Read once for all rules: there are few, and an index has them.
    still_open = open_facts(connection)
    now = _Now(connection, at_ns, still_open, _single_runs(connection, rules, at_ns, seen, still_open))
    for rule in rules:
        if rule.per_run:
            yield from now.of_runs(rule)
        elif rule.measure == FAILURES:
            yield from _numbers(rule, now.failures(rule))
        elif rule.measure == SILENCE:
            yield from now.silence(rule)
        elif rule.measure == DURATION:
            yield from _numbers(rule, now.durations(rule))
        else:
            yield from now.spending(rule)


def _single_runs(
    connection: Connection, rules: Sequence[Rule], at_ns: int, seen: Seen, still_open: list[RunFact]
) -> list[RunFact]:
    """Return the runs that may have changed since the look before, and note what this one sees."""
    newest = last_id(connection)
    found = {fact.event_id: fact for fact in still_open}
    if any(rule.per_run for rule in rules):
        after = seen.last_id
        # Fewer ids than before: the newest runs were deleted, and SQLite gives their ids again.
        if after is None or newest < after:
            after = id_before(connection, iso_utc(at_ns - _AT_START_S * NS))
        after -= _OVERLAP
        arrived = arrived_facts(connection, after, ended_after=iso_utc(at_ns - LATE_S * NS))
        ended = facts_of(connection, seen.open_ids - found.keys())
        found |= {fact.event_id: fact for fact in (*arrived, *ended)}
    seen.last_id, seen.open_ids = newest, {fact.event_id for fact in still_open}
    # What began after the instant is the next look's.
    return [fact for fact in found.values() if fact.created_ns <= at_ns]


def _numbers(rule: Rule, values: Mapping[str, float]) -> Iterator[Found]:
    """Yield the readings of numbers that are known."""
    wanted = values if rule.is_each or rule.scope == ALL or not rule.of else {rule.of: values.get(rule.of, 0.0)}
    for subject, value in wanted.items():
        yield Found(rule, subject, Reading(value, rule.limit))


class _Now:
    """The database at one look. What several rules need is read once."""

    def __init__(
        self, connection: Connection, at_ns: int, still_open: list[RunFact], single_runs: list[RunFact]
    ) -> None:
        self._connection = connection
        self._at_ns = at_ns
        self._open = still_open
        self._single_runs = single_runs
        self._windows: dict[float, FigureWindow] = {}
        self._spendings: dict[tuple[float, str], dict[str, Spending]] = {}

    def _window(self, over_s: float | None) -> FigureWindow:
        assert over_s is not None, "a rule over a time has one"
        if over_s not in self._windows:
            since_ns = begin_ns(over_s, self._at_ns)
            self._windows[over_s] = FigureWindow.between(self._connection, since_ns, self._at_ns, with_open=True)
        return self._windows[over_s]

    def spending(self, rule: Rule) -> Iterator[Found]:
        """Yield cost or tokens of each subject."""
        dimension = "agent" if rule.scope == ALL else rule.scope
        key = (rule.over_s or 0.0, dimension)
        if key not in self._spendings:
            self._spendings[key] = self._window(rule.over_s).spending(dimension)
        by_name = self._spendings[key]
        found = {"": total(by_name.values())} if rule.scope == ALL else _wanted(rule, by_name, Spending())
        for subject, used in found.items():
            yield Found(rule, subject, _reading_of(rule, used))

    def durations(self, rule: Rule) -> dict[str, float]:
        """Return how long the runs of each subject have taken together."""
        dimension = "agent" if rule.scope == ALL else rule.scope
        work = self._window(rule.over_s).work(dimension)
        ended = {name: one.duration_ms / 1_000 for name, one in work.items()}
        found = {"": sum(ended.values())} if rule.scope == ALL else dict(_wanted(rule, ended, 0.0))
        for fact in self._open:
            if fact.created_ns <= self._at_ns:
                for subject in subjects_of(rule, fact.names):
                    found[subject] = found.get(subject, 0.0) + fact.duration_s(self._at_ns)
        return found

    def failures(self, rule: Rule) -> dict[str, float]:
        """Return how many runs of each subject have failed in the rule's time."""
        since_ns = begin_ns(rule.over_s or 0.0, self._at_ns)
        ended = (_runs.end_time > iso_utc(since_ns), _runs.end_time <= iso_utc(self._at_ns))
        created = _runs.created_at > iso_utc(since_ns - _FAILED_AFTER_S * NS)
        whose = _SCOPE_COLUMNS.get(rule.scope, literal(""))
        counts: defaultdict[str, float] = defaultdict(float, {"": 0.0} if rule.scope == ALL else {})
        for status in (FAILED, TIMEOUT):  # one index serves each, and not both at once
            counted = select(whose, func.count()).where(has_status(status), created, *ended, _runs.plumbing == 0)
            for name, number in self._connection.execute(counted.group_by(text("1"))):
                names = {rule.scope: label_names(name) if rule.scope == "label" else (name,) if name else ()}
                for subject in subjects_of(rule, names):
                    counts[subject] += number
        return counts

    def of_runs(self, rule: Rule) -> Iterator[Found]:
        """Yield the readings of single runs."""
        facts = [fact for fact in self._single_runs if any(True for _ in subjects_of(rule, fact.names))]
        signs = self._signs(facts) if rule.measure == SILENCE else {}
        thresholds = self._medians(rule, facts) if rule.median_share is not None else {}
        for fact in facts:
            is_final = fact.ended_by(self._at_ns)
            if rule.measure == SILENCE:
                sign_ns = max(signs.get(fact.event_id, 0), fact.updated_ns, fact.start_ns)
                value: float | None = 0.0 if is_final else max(self._at_ns - sign_ns, 0) / NS
            else:
                value = fact.value(rule.measure, self._at_ns)
            threshold = rule.limit if rule.median_share is None else thresholds.get(fact.event_id)
            yield Found(rule, fact.event_id, Reading(value, threshold, is_final, fact.unpriced), fact)

    def _signs(self, facts: Iterable[RunFact]) -> dict[str, int]:
        """Return when the last event or step of runs was, as far as they have any."""
        event_ids = [fact.event_id for fact in facts if not fact.ended_by(self._at_ns)]
        found: defaultdict[str, int] = defaultdict(int)
        for table, moment in (
            (run_events, run_events.c.timestamp),
            (run_spans, func.coalesce(run_spans.c.end_time, run_spans.c.start_time)),
        ):
            last: Any = select(table.c.event_id, func.max(moment)).group_by(table.c.event_id)
            for event_id, moment_text in rows_with(self._connection, last, table.c.event_id, event_ids):
                found[event_id] = max(found[event_id], parse_iso(moment_text))
        return found

    def _medians(self, rule: Rule, facts: list[RunFact]) -> dict[str, float]:
        """Return event_id → the threshold that a run gets from its agent's runs before it, where there are enough."""
        by_agent: defaultdict[str, list[RunFact]] = defaultdict(list)
        for fact in facts:
            by_agent[fact.agent].append(fact)
        found: dict[str, float] = {}
        for agent, of_agent in by_agent.items():
            newest = max(fact.created_ns for fact in of_agent)
            # Twice as many, because those that are open, or overlap, do not count.
            limit = 2 * rule.median_runs + len(of_agent)
            past = past_of_agent(self._connection, agent, before=iso_utc(newest), limit=limit)
            for fact in of_agent:
                if (threshold := threshold_of(rule, fact, past)) is not None:
                    found[fact.event_id] = threshold
        return found

    def silence(self, rule: Rule) -> Iterator[Found]:
        """Yield how long the rule's subject has shown no sign of life; nothing where it never had a run."""
        mine = [fact for fact in self._open if any(True for _ in subjects_of(rule, fact.names))]
        signs = self._signs(mine)
        moments = [max(signs.get(fact.event_id, 0), fact.updated_ns) for fact in mine]
        # What ended after the instant was alive at it.
        moments += [min(fact.end_ns or 0, self._at_ns) for fact in self._newest(rule)]
        if moments:
            silent_s = max(self._at_ns - max(moments), 0) / NS
            yield Found(rule, rule.of, Reading(silent_s, rule.limit))

    def _newest(self, rule: Rule) -> list[RunFact]:
        """Return the newest runs of a rule's subject; none where it never had one."""
        until = _runs.created_at <= iso_utc(self._at_ns)
        if rule.scope == "label":
            period = self._last_period(rule.of)
            # Figures may wait for their refresh, so the runs of the last hours are looked at in any case.
            since = iso_utc(self._at_ns - int((rule.limit or 0.0) * NS))
            bounds = [_runs.created_at > since] + ([_runs.created_at.between(period, f"{period}~")] if period else [])
            facts = [fact for bound in bounds for fact in facts_where(self._connection, until, bound)]
            return [fact for fact in facts if rule.of in fact.names["label"]]
        ids = select(_runs.id).where(until, _runs.plumbing == 0)
        if rule.scope != ALL:
            ids = ids.where(_SCOPE_COLUMNS[rule.scope] == rule.of)
        newest = ids.order_by(_runs.created_at.desc(), _runs.id.desc()).limit(20).scalar_subquery()
        return list(facts_where(self._connection, _runs.id.in_(newest)))

    def _last_period(self, label: str) -> str | None:
        """Return the last day on which a label had a run, by the figures that are kept."""
        work = work_periods.c
        wanted = select(func.max(work.period)).where(work.dimension == "label", work.name == label)
        last: str | None = self._connection.execute(wanted).scalar()
        return last


def _wanted(rule: Rule, by_name: Mapping[str, Any], nothing: Any) -> dict[str, Any]:
    """Return what a rule's names have; nothing for one that is named and has none."""
    if not rule.is_each:
        return {rule.of: by_name.get(rule.of, nothing)}
    return {
        name: value for name, value in by_name.items() if any(True for _ in subjects_of(rule, {rule.scope: (name,)}))
    }


def _reading_of(rule: Rule, used: Spending) -> Reading:
    """Return the reading of a sum. A cost of which nothing is known is unknown, and not zero."""
    if rule.measure == TOKENS:
        return Reading(float(used.tokens), rule.limit)
    assert rule.measure == COST
    unpriced = any(used.unpriced.values())
    return Reading(None if unpriced and not used.has_cost else used.cost_usd or 0.0, rule.limit, unpriced=unpriced)


def threshold_of(rule: Rule, fact: RunFact, past: Iterable[RunFact]) -> float | None:
    """Return the threshold that a run gets from runs of its agent, the newest first; None where there are too few.

    Those count that had ended before the run was created, and whose figure is known; a median of 0 gives no threshold.
    """
    values: list[float] = []
    for one in past:
        if one.end_ns is not None and one.end_ns <= fact.created_ns and one.event_id != fact.event_id:
            value = one.value(rule.measure, one.end_ns)
            if value is not None:
                values.append(value)
        if len(values) == rule.median_runs:
            break
    if len(values) < LEAST_MEDIAN_RUNS or rule.median_share is None:
        return None
    return rule.median_share * median(values) or None
