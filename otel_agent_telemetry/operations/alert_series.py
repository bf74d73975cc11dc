"""The values of a rule's subjects over the past, worked out from runs as they are stored. Pure.

A *step* is what a run does to the value of its subject at an instant: it begins, ends, leaves the rule's time. A
*running sum* adds steps up, and knows when its value will next cross a threshold by the passing of time alone. Sums
are of integers (10^-9 US dollars, tokens, nanoseconds), so that what is added and taken away leaves nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from otel_agent_telemetry.alert_judging import Reading
from otel_agent_telemetry.alert_rules import COST, DURATION, FAILURES, SILENCE, TOKENS, Rule
from otel_agent_telemetry.storage.alert_facts import NS, RunFact
from otel_agent_telemetry.storage.figure_window import leaves_ns

_UNITS: Final = {COST: NS, DURATION: NS, TOKENS: 1, FAILURES: 1, SILENCE: NS}
"""Measure → how many of the integers summed here make one of its unit."""


class Step(NamedTuple):
    """What changes at an instant. `amount`: of the sum; `begun_ns`: of the sum of the beginnings of open runs.

    `priced`, `unpriced`: runs with a cost, and with tokens whose cost nobody knows. `sign_ns`: a sign of life.
    """

    at_ns: int
    amount: int = 0
    open_runs: int = 0
    begun_ns: int = 0
    priced: int = 0
    unpriced: int = 0
    sign_ns: int = 0


class RunningSum:
    """The sum over a subject's runs, or its silence."""

    __slots__ = ("_amount", "_begun_ns", "_open_runs", "_priced", "_rule", "_sign_ns", "_unit", "_unpriced")

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._unit = _UNITS[rule.measure]
        self._amount = self._open_runs = self._begun_ns = self._priced = self._unpriced = self._sign_ns = 0

    def take(self, step: Step) -> None:
        """Add a step."""
        self._amount += step.amount
        self._open_runs += step.open_runs
        self._begun_ns += step.begun_ns
        self._priced += step.priced
        self._unpriced += step.unpriced
        self._sign_ns = max(self._sign_ns, step.sign_ns)

    def _value(self, at_ns: int) -> int:
        """Return the value at an instant, as an integer."""
        if self._rule.measure == SILENCE:
            return 0 if self._open_runs else at_ns - self._sign_ns
        if self._rule.measure == DURATION:
            return self._amount + self._open_runs * at_ns - self._begun_ns
        return self._amount

    def reading(self, at_ns: int) -> Reading:
        """Return the reading at an instant, which is not before the last step."""
        is_unknown = self._rule.measure == COST and self._unpriced and not self._priced
        value = None if is_unknown else self._value(at_ns) / self._unit
        return Reading(value, self._rule.limit, unpriced=self._unpriced > 0)

    def next_crossing(self, at_ns: int) -> int | None:
        """Return when the value next rises above one of the thresholds if no step comes; None for never."""
        is_silent = self._rule.measure == SILENCE and not self._open_runs
        rate = 1 if is_silent else self._open_runs if self._rule.measure == DURATION else 0
        if not rate or self._rule.limit is None:
            return None
        now = self._value(at_ns)
        bounds = (int(self._rule.limit * share * self._unit) for share in (self._rule.resolve_at, 1.0))
        ahead = [bound for bound in bounds if bound >= now]
        return at_ns + (min(ahead) - now) // rate + 1 if ahead else None


def steps_of(rule: Rule, fact: RunFact) -> Iterator[Step]:
    """Yield what a run does to its subject, in a rule that sums runs over a time or waits for their silence."""
    end_ns = fact.end_ns
    # What is known of an open run is its last state.
    known_ns = max(fact.updated_ns if end_ns is None else end_ns, fact.created_ns)
    if rule.measure == SILENCE:
        yield Step(fact.created_ns, open_runs=1)
        yield Step(known_ns, open_runs=-1, sign_ns=known_ns)
        return
    assert rule.over_s is not None, "a rule that sums runs has a time"
    if rule.measure == FAILURES:
        if fact.has_failed and end_ns is not None:
            yield Step(end_ns, amount=1)
            yield Step(leaves_ns(end_ns, rule.over_s), amount=-1)
        return
    if rule.measure == DURATION:
        yield Step(fact.created_ns, open_runs=1, begun_ns=fact.start_ns)
        if end_ns is None:
            return
        yield Step(known_ns, open_runs=-1, begun_ns=-fact.start_ns)
    used = _used(rule, fact)
    gone_ns = leaves_ns(fact.created_ns, rule.over_s)
    if end_ns is None or known_ns < gone_ns:
        yield used._replace(at_ns=known_ns)
    if end_ns is not None and known_ns < gone_ns:
        yield Step(gone_ns, amount=-used.amount, priced=-used.priced, unpriced=-used.unpriced)


def _used(rule: Rule, fact: RunFact) -> Step:
    """Return what a run adds to its subject's sum."""
    if rule.measure == TOKENS:
        return Step(0, amount=fact.tokens)
    if rule.measure == DURATION:
        return Step(0, amount=max((fact.end_ns or 0) - fact.start_ns, 0))
    cost = 0 if fact.cost_usd is None else round(fact.cost_usd * NS)
    return Step(0, amount=cost, priced=int(fact.cost_usd is not None), unpriced=int(fact.unpriced))


class RunSeries:
    """The value of one run that is judged by itself. `signs`: its signs of life, in order, for its silence."""

    def __init__(self, rule: Rule, fact: RunFact, threshold: float | None, signs: Sequence[int] = ()) -> None:
        self._rule = rule
        self._fact = fact
        self._threshold = threshold
        self._signs = signs

    def reading(self, at_ns: int) -> Reading:
        """Return the reading at an instant."""
        fact, is_final = self._fact, self._fact.ended_by(at_ns)
        if self._rule.measure == SILENCE:
            place = bisect_right(self._signs, at_ns)
            sign_ns = self._signs[place - 1] if place else fact.start_ns
            value: float | None = 0.0 if is_final else (at_ns - sign_ns) / NS
        elif self._rule.measure == DURATION or is_final or (fact.end_ns is None and at_ns >= fact.updated_ns):
            value = fact.value(self._rule.measure, at_ns)
        else:
            value = 0.0
        return Reading(value, self._threshold, is_final, fact.unpriced)

    def moments(self) -> list[int]:
        """Return the instants at which its value changes, or crosses a threshold."""
        fact = self._fact
        found = [fact.created_ns, fact.updated_ns if fact.end_ns is None else fact.end_ns]
        if self._rule.measure == DURATION and self._threshold is not None:
            found.append(fact.start_ns + int(self._threshold * NS) + 1)
        if self._rule.measure == SILENCE and self._threshold is not None:
            for sign_ns in (fact.start_ns, *self._signs):
                found += [
                    sign_ns,
                    *(sign_ns + int(self._threshold * share * NS) + 1 for share in (self._rule.resolve_at, 1)),
                ]
        last_ns = fact.end_ns
        return sorted(one for one in found if one >= fact.created_ns and (last_ns is None or one <= last_ns))
