"""The dry run of alert rules over the past: when each would have opened an alert, and when it would have been resolved.

The past is played again at the instants at which a service evaluates, and judged by the same step
(`alert_judging.judge`). A run is known from its row as it is now: it counts with what it used from when it
ended, and while it is open with what it has used so far from its last state. So where the service saw cost and
tokens of a run grow, its alert opened earlier than the dry run finds, by the run's duration at most.

Runs are read once, in the order of their creation, and kept only as long as a rule's time needs them.
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection

from otel_agent_telemetry.alert_judging import NEVER_OPEN, Reading, Standing, judge, next_tick_ns, tick_ns
from otel_agent_telemetry.alert_rules import SILENCE, Rule
from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.operations.alert_series import RunningSum, RunSeries, Step, steps_of
from otel_agent_telemetry.storage.alert_facts import NS, RunFact, facts_between, signs_of_run, subjects_of
from otel_agent_telemetry.storage.alert_readings import threshold_of

_BEFORE_S: Final = 7 * 86_400
"""Runs that began so long before the time of a rule, and ended within it, are read too."""


class PastAlert(NamedTuple):
    """An alert that would have been. Times are ISO 8601 texts in UTC, `resolved_at` None where it would be open."""

    rule: str
    subject: str
    run_id: str | None
    value: float | None
    threshold: float | None
    opened_at: str
    resolved_at: str | None


def alerts_of_past(
    connection: Connection,
    rules: Sequence[Rule],
    *,
    since_ns: int,
    now_ns: int,
    progress: Callable[[int], None] = lambda _: None,
) -> list[PastAlert]:
    """Return the alerts that would have been open since an instant, in the order in which they opened.

    Reads every run since then, and those that the rules' times reach back to. `progress` gets the number read.
    """
    last_ns = tick_ns(now_ns)
    plays = [_RunsPlay(rule, connection, last_ns) if rule.per_run else _SumsPlay(rule, last_ns) for rule in rules]
    longest_s = max((rule.over_s or 0.0 for rule in rules), default=0.0)
    first = iso_utc(since_ns - int(longest_s + _BEFORE_S) * NS)
    for number, fact in enumerate(facts_between(connection, first, iso_utc(last_ns)), start=1):
        for play in plays:
            play.add(fact)
        progress(number)
    began = iso_utc(since_ns)
    found = (one for play in plays for one in play.finish() if one.resolved_at is None or one.resolved_at >= began)
    return sorted(found, key=lambda one: (one.opened_at, one.rule, one.subject))


class _Judged:
    """How one subject has stood over time: judged instant by instant, in their order."""

    def __init__(self, rule: Rule, subject: str, run_id: str | None = None) -> None:
        self._rule, self._subject, self._run_id = rule, subject, run_id
        self.standing: Standing = NEVER_OPEN
        self._opened: tuple[int, Reading] | None = None

    def judge(self, reading: Reading, at_ns: int) -> PastAlert | None:
        """Judge a reading; return the alert that it resolves."""
        self.standing, change = judge(self._rule, self.standing, reading, at_ns)
        if change == "opened":
            self._opened = at_ns, reading
        return self.closed(iso_utc(at_ns)) if change == "resolved" else None

    def again_ns(self) -> int | None:
        """Return when an alert that is calm now is resolved if it stays so."""
        calm_ns = self.standing.calm_since_ns
        return None if calm_ns is None else calm_ns + int(self._rule.resolve_after_s * NS)

    def closed(self, resolved_at: str | None) -> PastAlert | None:
        """Return the alert that is open, with when it was resolved; None where none is."""
        if self._opened is None:
            return None
        (at_ns, reading), self._opened = self._opened, None
        values = (reading.value, reading.threshold)
        return PastAlert(self._rule.name, self._subject, self._run_id, *values, iso_utc(at_ns), resolved_at)


class _RunsPlay:
    """A rule over single runs: each is played as a whole when it is read."""

    def __init__(self, rule: Rule, connection: Connection, last_ns: int) -> None:
        self._rule, self._connection, self._last_ns = rule, connection, last_ns
        # Twice as many, because those that are open, or overlap, do not count.
        self._past: defaultdict[str, deque[RunFact]] = defaultdict(lambda: deque(maxlen=2 * rule.median_runs))
        self._found: list[PastAlert] = []

    def add(self, fact: RunFact) -> None:
        """Take the next run."""
        if any(True for _ in subjects_of(self._rule, fact.names)):
            self._play(fact)
        # Behind the playing: a run is not part of its own past.
        if self._rule.median_share is not None:
            self._past[fact.agent].appendleft(fact)

    def _play(self, fact: RunFact) -> None:
        """Judge a run at each instant at which something changes."""
        rule = self._rule
        threshold = rule.limit if rule.median_share is None else threshold_of(rule, fact, self._past[fact.agent])
        signs = signs_of_run(self._connection, fact) if self._is_long(fact, threshold) else ()
        series = RunSeries(rule, fact, threshold, signs)
        judged = _Judged(rule, fact.event_id, fact.run_id)
        ticks = [*map(next_tick_ns, series.moments())]
        heapq.heapify(ticks)
        last_ns = -1
        while ticks and (at_ns := heapq.heappop(ticks)) <= self._last_ns:
            # Several moments fall on one instant, which is judged once.
            if at_ns == last_ns:
                continue
            last_ns = at_ns
            reading = series.reading(at_ns)
            if (alert := judged.judge(reading, at_ns)) is not None:
                self._found.append(alert)
            again_ns = at_ns + 1 if judged.standing.is_open and reading.is_final else judged.again_ns()
            if again_ns is not None and again_ns > at_ns:
                heapq.heappush(ticks, next_tick_ns(again_ns))
        if (alert := judged.closed(None)) is not None:
            self._found.append(alert)

    def _is_long(self, fact: RunFact, threshold: float | None) -> bool:
        """Return whether a run took so long that it can have been silent: the signs of others are not read."""
        is_of_silence = self._rule.measure == SILENCE and threshold is not None
        return is_of_silence and fact.duration_s(self._last_ns) > (threshold or 0.0)

    def finish(self) -> list[PastAlert]:
        """Return every alert."""
        return self._found


class _SumsPlay:
    """A rule over sums, or the silence, of subjects: what runs do is judged in the order of time."""

    def __init__(self, rule: Rule, last_ns: int) -> None:
        self._rule, self._last_ns = rule, last_ns
        self._steps: list[tuple[int, int, str, Step]] = []
        self._number = 0
        self._subjects: dict[str, tuple[RunningSum, _Judged]] = {}
        self._found: list[PastAlert] = []

    def add(self, fact: RunFact) -> None:
        """Take the next run, after all that happened before its creation."""
        # Runs come in the order of their creation: nothing before it can change any more.
        self._pass_until(next_tick_ns(fact.created_ns) - 1)
        for subject in subjects_of(self._rule, fact.names):
            for step in steps_of(self._rule, fact):
                self._plan(subject, step)

    def _plan(self, subject: str, step: Step) -> None:
        """Note what will happen to a subject."""
        # Numbered, so that steps of one instant stay in their order and are not compared.
        self._number += 1
        heapq.heappush(self._steps, (next_tick_ns(step.at_ns), self._number, subject, step))

    def _pass_until(self, until_ns: int) -> None:
        """Let everything happen up to an instant, and judge whoever it happens to."""
        while self._steps and (at_ns := self._steps[0][0]) <= until_ns:
            touched: dict[str, None] = {}
            while self._steps and self._steps[0][0] == at_ns:
                _, _, subject, step = heapq.heappop(self._steps)
                if subject not in self._subjects:
                    self._subjects[subject] = RunningSum(self._rule), _Judged(self._rule, subject)
                self._subjects[subject][0].take(step)
                touched[subject] = None
            # Judged after all steps of the instant, as a service sees them together.
            for subject in touched:
                self._judge(subject, at_ns)

    def _judge(self, subject: str, at_ns: int) -> None:
        """Judge a subject at an instant, and plan when to judge it again."""
        total, judged = self._subjects[subject]
        if (alert := judged.judge(total.reading(at_ns), at_ns)) is not None:
            self._found.append(alert)
        for again_ns in (judged.again_ns(), total.next_crossing(at_ns)):
            if again_ns is not None and again_ns > at_ns:
                self._plan(subject, Step(again_ns))

    def finish(self) -> list[PastAlert]:
        """Let the rest happen up to now; return every alert."""
        self._pass_until(self._last_ns)
        still_open = (judged.closed(None) for _, judged in self._subjects.values())
        return self._found + [alert for alert in still_open if alert is not None]
