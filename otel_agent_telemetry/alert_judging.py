"""Whether an alert opens or is resolved: a pure step from one state and reading of a subject to the next.

A *subject* is what a rule judges by itself: all runs, one agent, one run. Its *reading* at an instant is its
value, from wherever it comes: the service reads the runs every 30 seconds, the dry run the past. Both
take the same instants (`tick_ns`) and this step, so they open and resolve the same alerts.

An alert opens with the first value above the threshold. It is resolved when every value since
`resolve_after_s` was at or below `resolve_at` times the threshold, or at once when its run has ended. An
unknown value changes nothing: it neither opens an alert nor resolves one. What one run has used only
grows, so its alert opens once; only its silence may come again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from otel_agent_telemetry.alert_rules import SILENCE, Rule

TICK_S: Final = 30
_NS: Final = 1_000_000_000
_TICK_NS: Final = TICK_S * _NS
Change = Literal["opened", "resolved"] | None


def tick_ns(now_ns: int) -> int:
    """Return the last instant at which rules are judged: a whole number of 30 seconds since 1970."""
    return now_ns - now_ns % _TICK_NS


def next_tick_ns(instant_ns: int) -> int:
    """Return the first instant at which rules are judged that is not before another."""
    return -(-instant_ns // _TICK_NS) * _TICK_NS


class Reading(NamedTuple):
    """What a rule reads of a subject at an instant. `value`: None is unknown, and so is `threshold`.

    `is_final`: the run has ended, and its value changes no more. `unpriced`: runs with tokens whose cost nobody
    knows are among those summed.
    """

    value: float | None
    threshold: float | None
    is_final: bool = False
    unpriced: bool = False

    @property
    def is_above(self) -> bool:
        """Return whether the value is known to be above the threshold."""
        return self.value is not None and self.threshold is not None and self.value > self.threshold


@dataclass(frozen=True, slots=True)
class Standing:
    """How a rule stands with a subject. `calm_since_ns`: since when all values are low, while its alert is open.

    `had_alert`: an alert of this rule and subject was opened before.
    """

    is_open: bool = False
    calm_since_ns: int | None = None
    had_alert: bool = False


NEVER_OPEN: Final = Standing()
"""How a rule stands with a subject that never had an alert."""


def judge(rule: Rule, standing: Standing, reading: Reading, at_ns: int) -> tuple[Standing, Change]:
    """Return how a rule stands after a reading at an instant, and what changed with it."""
    if not standing.is_open:
        # Cost, tokens and duration of a run never fall again: its alert would only be repeated.
        repeats = standing.had_alert and rule.per_run and rule.measure != SILENCE
        if reading.is_above and not repeats:
            return Standing(is_open=True, had_alert=True), "opened"
        return standing, None
    # Nobody can act on a run that has ended, so its alert does not wait to be calm.
    if reading.is_final:
        return Standing(had_alert=True), "resolved"
    return _while_open(rule, standing, reading, at_ns)


def _while_open(rule: Rule, standing: Standing, reading: Reading, at_ns: int) -> tuple[Standing, Change]:
    """Return the same for an alert that is open."""
    # Unknown is neither high nor low, and does not interrupt a calm either.
    if reading.value is None or reading.threshold is None:
        return standing, None
    if reading.value > reading.threshold * rule.resolve_at:
        return Standing(is_open=True, had_alert=True), None
    since_ns = at_ns if standing.calm_since_ns is None else standing.calm_since_ns
    if at_ns - since_ns >= rule.resolve_after_s * _NS:
        return Standing(had_alert=True), "resolved"
    return Standing(is_open=True, calm_since_ns=since_ns, had_alert=True), None
