"""Budgets and alerts: the rules of `alerts.toml`, read and checked. Touches no file (`alert_file` does).

The file is TOML in UTF-8, one table a rule; the table's name is the rule's. It has

    [daily-budget]
    measure = "cost"          # cost (US dollars), tokens, duration, failures or silence
    over = "24h"              # a time such as 90s, 30m, 24h or 7d; or "run": each run by itself
    limit = 25.0              # a number; for duration and silence a time
    agent = "claude-code"     # or session, user, label = "team=search"; none of them: all runs

`"*"` in place of a name judges each agent, session or user by itself, and `label = "team=*"` each team.
In place of `limit` a rule over a run may compare with the past of the run's agent:

    median_share = 3.0        # above three times the median of that agent's runs before it
    median_runs = 20          # of its last 20 that had ended, 5 at least; default 20

An alert opens when the measure is above the limit. It is resolved when the measure has stayed at or below
`resolve_at` (default 0.9) times the limit for `resolve_after` (default "10m"): a series that swings about
its limit opens one alert. `alert_judging` does that.

Every fault of a file is found, each with its line and what to do. A rule that needs a setting which is off
is refused, and the others count.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.duration_words import duration_s, duration_text
from otel_agent_telemetry.toml_lines import TomlLines, fault_of

COST, TOKENS, DURATION, FAILURES, SILENCE = "cost", "tokens", "duration", "failures", "silence"
MEASURES: Final = (COST, TOKENS, DURATION, FAILURES, SILENCE)
ALL: Final = "all"
SCOPES: Final = ("agent", "session", "user", "label")
EACH: Final = "*"
RUN: Final = "run"
LEAST_MEDIAN_RUNS: Final = 5
"""Runs of an agent's past below which its median is not used."""
_TIMES: Final = (DURATION, SILENCE)
"""Measures whose limit is a time."""
_COMPARED: Final = (COST, TOKENS, DURATION)
"""Measures of one run, which can be compared with those of the runs before it."""
_KEYS: Final = ("measure", "over", "limit", *SCOPES, "median_share", "median_runs", "resolve_at", "resolve_after")
_MAX_RULES: Final = 100
_MAX_NAME: Final = 100
_OVER_S: Final = (60, 90 * 86_400)
_MOST_OVER_SESSIONS_S: Final = 3 * 86_400
_MOST_S: Final = 366 * 86_400
_MOST_MEDIAN_RUNS: Final = 200


class Problem(NamedTuple):
    """A fault of the file: its line, the rule, "" for none, what is wrong and what to do."""

    line: int
    rule: str
    text: str
    fix: str

    def __str__(self) -> str:
        rule = f"[{self.rule}] " if self.rule else ""
        return f"line {self.line}: {rule}{self.text}. {self.fix}"


class AlertRulesError(Exception):
    """A file that cannot be used; `problems` are its faults in the order of their lines."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule. `of`: the name in its scope, `EACH` for each, "" for all runs together.

    `over_s`: how far back runs count; None for a rule over each run, and for the silence of a scope.
    `limit`: US dollars, tokens, seconds or runs; None for a rule that compares with the past.
    """

    name: str
    measure: str
    scope: str = ALL
    of: str = ""
    over_s: float | None = None
    per_run: bool = False
    limit: float | None = None
    median_share: float | None = None
    median_runs: int = 20
    resolve_at: float = 0.9
    resolve_after_s: float = 600.0
    line: int = 0

    @property
    def is_each(self) -> bool:
        """Return whether each name of the scope is judged by itself."""
        return self.of == EACH or self.of.endswith(f"={EACH}")

    def describe(self) -> str:
        """Return the rule in words: `cost over 24h of each agent above $25.00`."""
        over = " of a run" if self.per_run else f" over {duration_text(self.over_s)}" if self.over_s else ""
        if self.scope == ALL:
            whose = "" if self.per_run else " of all runs"
        elif self.is_each and not self.per_run:
            whose = f" of each {self.of.removesuffix(f'={EACH}') if self.scope == 'label' else self.scope}"
        else:
            whose = f" of {self.scope} {self.of}"
        return f"{self.measure}{over}{whose} above {self.describe_limit()}"

    def describe_limit(self) -> str:
        """Return the limit in words."""
        if self.limit is None:
            return f"{self.median_share:g} times the median of its agent's last {self.median_runs} runs"
        return amount_text(self.measure, self.limit)


def amount_text(measure: str, amount: float | None) -> str:
    """Return a value of a measure with its unit: `$25.00`, `2h`, `1,200 tokens`; `unknown` for None."""
    if amount is None:
        return "unknown"
    if measure == COST:
        return f"${amount:,.2f}" if amount >= 1 or amount == 0 else f"${amount:.4g}"
    if measure in _TIMES:
        return duration_text(amount)
    return f"{amount:,.0f} {measure if measure == TOKENS else 'failed runs'}"


class Rules(NamedTuple):
    """The rules of a file that count, and why others, which need a setting that is off, do not."""

    rules: tuple[Rule, ...] = ()
    refused: tuple[Problem, ...] = ()


def read_rules(text: str, settings: TelemetryConfig) -> Rules:
    """Return the rules of a file's text. Raises AlertRulesError with every fault."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        line, why = fault_of(problem, text)
        raise AlertRulesError(Problem(line, "", f"this is no TOML: {why}", "Correct the line.")) from None
    # The parser keeps no lines of what it has read; they are looked up in the text.
    lines = TomlLines(text)
    # Collected and not raised at the first: a file is corrected in one go.
    problems: list[Problem] = []
    if len(tables) > _MAX_RULES:
        problems.append(Problem(1, "", f"there are {len(tables)} rules", f"Write at most {_MAX_RULES}."))
    rules, refused = [], []
    for name, table in tables.items():
        reader = _Table(name, table, lines)
        rule = reader.rule()
        problems += reader.problems
        if rule is not None and not reader.problems:
            # A setting is the operator's, not the file's: such a rule leaves the others in force.
            reason = _needs(rule, settings)
            if reason is None:
                rules.append(rule)
            else:
                refused.append(Problem(lines.of(name, rule.scope), name, *reason))
    if problems:
        raise AlertRulesError(*sorted(problems))
    return Rules(tuple(rules), tuple(refused))


def _needs(rule: Rule, settings: TelemetryConfig) -> tuple[str, str] | None:
    """Return why a rule cannot work with these settings, and what to do; None where it can."""
    if rule.scope == "user" and settings.user_id == "off":
        variable = settings.variable_of("user_id")
        return f"{variable} is off, so runs have no user", f"Set {variable}=hash or keep, or remove the rule."
    if rule.per_run and rule.measure == SILENCE and settings.deliver != "all":
        variable = settings.variable_of("deliver")
        why = f"{variable} is {settings.deliver}, so no step or event shows that a run is alive"
        return why, f"Set {variable}=all, or remove the rule."
    return None


class _Table:
    """The reader of one rule: notes each fault, and goes on."""

    def __init__(self, name: str, table: Any, lines: TomlLines) -> None:
        self._name = name
        self._table: Mapping[str, Any] = table if isinstance(table, dict) else {}
        self._lines = lines
        self.problems: list[Problem] = []
        if not isinstance(table, dict):
            self._fault("", "it stands outside of a rule", "Begin each rule with its name: [name].")

    def _fault(self, key: str, text: str, fix: str) -> None:
        """Note a fault at the line of a key."""
        self.problems.append(Problem(self._lines.of(self._name, key), self._name, text, fix))

    def rule(self) -> Rule | None:
        """Return the rule; None, or one that must not be used, where there are faults."""
        if self.problems:
            return None
        if not self._name.isprintable() or not 0 < len(self._name) <= _MAX_NAME:
            self._fault("", "its name is empty, too long or not printable", f"Use 1 to {_MAX_NAME} letters and digits.")
        for key in self._table.keys() - set(_KEYS):
            self._fault(key, f"{key!r} is unknown", f"Known are {', '.join(_KEYS)}.")
        measure = self._table.get("measure")
        if measure not in MEASURES:
            self._fault("measure", f"measure is {_shown(measure)}", f"Write one of {', '.join(MEASURES)}.")
            return None
        scope, of = self._scope()
        per_run, over_s = self._over(measure)
        limit = self._limit(measure, per_run=per_run)
        if of and measure == SILENCE and not per_run and of.endswith(EACH):
            self._fault(scope, "names that are no longer used would be silent for ever", f"Name one {scope}.")
        if scope == "session" and of == EACH and (over_s or 0.0) > _MOST_OVER_SESSIONS_S:
            self._fault("over", "there may be as many sessions as runs", 'Write over = "3d", or less, or name one.')
        return Rule(
            name=self._name,
            measure=measure,
            scope=scope,
            of=of,
            over_s=over_s,
            per_run=per_run,
            limit=limit,
            median_share=self._number("median_share", above=0),
            median_runs=int(self._number("median_runs", above=LEAST_MEDIAN_RUNS - 1, most=_MOST_MEDIAN_RUNS) or 20),
            resolve_at=self._resolve_at(),
            resolve_after_s=self._time("resolve_after", (0, 86_400), default=600.0),
            line=self._lines.of(self._name),
        )

    def _scope(self) -> tuple[str, str]:
        """Return the scope and the name in it."""
        # Figures are kept by one name at a time, so two conditions could only be judged from the runs.
        given = [scope for scope in SCOPES if scope in self._table]
        if len(given) > 1:
            self._fault(
                given[1], f"it names {' and '.join(given)}", "Keep one of them; write a second rule for the other."
            )
        if not given:
            return ALL, ""
        scope, of = given[0], self._table[given[0]]
        if not isinstance(of, str) or not of.strip():
            self._fault(scope, f"{scope} is {_shown(of)}", f'Write a name, or "{EACH}" for each.')
            return scope, ""
        if scope == "label" and not all(map(str.strip, of.partition("="))):
            self._fault(scope, f"label is {_shown(of)}", 'Write "team=search", or "team=*" for each team.')
        return scope, of

    def _over(self, measure: str) -> tuple[bool, float | None]:
        """Return whether each run is judged by itself, and else the seconds over which runs are summed."""
        over = self._table.get("over")
        if over is None and measure == SILENCE:
            return False, None
        if over is None:
            self._fault("", "over is missing", 'Write over = "24h", or another time, or "run" for each run by itself.')
        elif over == RUN:
            if measure == FAILURES:
                self._fault("over", "failures are counted over a time", 'Write over = "1h", or another time.')
            return True, None
        elif measure == SILENCE:
            self._fault("over", "silence has no time beside its limit", 'Remove over, or write over = "run".')
        else:
            return False, self._time("over", _OVER_S, default=None)
        return False, None

    def _limit(self, measure: str, *, per_run: bool) -> float | None:
        """Return the limit; None where the rule compares with the past."""
        compares = "median_share" in self._table
        if "limit" not in self._table:
            if not compares:
                self._fault("", "limit is missing", "Write limit, or median_share for a rule over a run.")
            elif not per_run or measure not in _COMPARED:
                fix = f'Write over = "run" and one of {", ".join(_COMPARED)}, or a limit.'
                self._fault("median_share", f"{measure} of more than one run has no median to compare with", fix)
            return None
        if compares:
            self._fault("median_share", "it has both limit and median_share", "Keep one of them.")
        if measure in _TIMES:
            seconds: float | None = self._time("limit", (1, _MOST_S), default=None)
            return seconds
        return self._number("limit", above=-1 if measure == FAILURES else 0, least_is_whole=measure == FAILURES)

    def _resolve_at(self) -> float:
        """Return the share of the limit at which an alert is resolved."""
        share = self._number("resolve_at", above=-1, most=1)
        return 0.9 if share is None else max(share, 0.0)

    def _time(self, key: str, bounds: tuple[float, float], *, default: Any) -> Any:
        """Return the seconds of a time; the default where the key is missing or wrong."""
        value = self._table.get(key)
        if value is None:
            return default
        fix = f'Write a time from {duration_text(bounds[0])} to {duration_text(bounds[1])}, such as "30m" or "24h".'
        try:
            seconds = duration_s(value) if isinstance(value, str) else math.nan
        except ValueError:
            seconds = math.nan
        if bounds[0] <= seconds <= bounds[1]:
            return seconds
        self._fault(key, f"{key} is {_shown(value)}", fix)
        return default

    def _number(
        self, key: str, *, above: float, most: float | None = None, least_is_whole: bool = False
    ) -> float | None:
        """Return a number above one bound and at most the other; None where it is missing or wrong."""
        value = self._table.get(key)
        if value is None:
            return None
        # `true` is an int to Python.
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if is_number and above < value and (most is None or value <= most):
            return float(value)
        least = f"from {above + 1:g}" if least_is_whole or above else "above 0"
        self._fault(
            key, f"{key} is {_shown(value)}", f"Write a number {least}{'' if most is None else f' to {most:g}'}."
        )
        return None


def _shown(value: object) -> str:
    """Return a value of the file for a message, cut."""
    return "missing" if value is None else repr(value)[:60]
