"""What the names of a run's attributes and settings mean, and the function that encodes its columns.

A `RunPlan` is made for the names of a span's attributes, the names that the client set, and the
columns that resource and process give. From the fifth run with them on, a function encodes the
columns at once (`plan_code`). What it does not cover (secret names, JSON columns, names of
frameworks whose values decide, names that the process sees seldom) goes the long way:
`mapping.run_columns`, which is the rule. A property test compares the bytes of the two.

The members of both stand in one order, `in_order`: those of columns as in `columns.TABLE`, then
those of `_LAST`, which the function is not generated for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from otel_agent_telemetry.columns import COLUMNS, COUNT_COLUMNS, MAX_COUNT, SCHEMA_VERSION, Fields
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.attribute_plan import SET_AS_GIVEN, AttributePlan, AttributePlans
from otel_agent_telemetry.otel.content import OPENING, Verdict
from otel_agent_telemetry.otel.left_out import count_names, sum_of
from otel_agent_telemetry.otel.plan_code import (
    MAX_VALUES,
    PLAIN_TYPES,
    PlainValues,
    are_short,
    compiled,
    leave_if_secret,
    leave_unless,
)
from otel_agent_telemetry.redaction import kept_name
from otel_agent_telemetry.run_id import name_in_id
from otel_agent_telemetry.usage import LEFT_OUT_KEY
from otel_agent_telemetry.wire import SPAN_WORK

_MAX_COMPILED: Final = 4
"""How often a plan is compiled, each time for values of other types."""
_MISSES: Final = 32
"""So many runs that the function was not right for, and it is compiled for the types of the last one."""
_MAX_PLANS: Final = 256
_MAX_KEPT: Final = 1_024
MAX_NAME: Final = 256
_CONTEXT: Final = "context_json"
_LAST: Final = ("parent_run_id", "start_commit", SPAN_WORK)
_IDENTITY: Final[Mapping[str, str]] = {
    "event_id": "run.event_id",
    "run_id": "run.run_id",
    "schema_version": str(SCHEMA_VERSION),
    "created_at": "started",
    "start_time": "started",
    "trace_id": "run.trace_id",
    "span_id": "run.span_id",
}
"""Columns that say which run it is, and since when → the expression of their value."""
_OWN: Final = frozenset({*_IDENTITY, *_LAST, _CONTEXT})
"""Columns that no attribute, setting or resource gives to a run that a function is generated for."""
_ORDER: Final = (*(name for name in COLUMNS if name not in _LAST), *_LAST)

ColumnsEncoder = Callable[..., "bytes | None"]
"""`(run, attributes, settings, extra, left_out, started, agent_name, job_type)` → the JSON of the columns.

`extra`: what the client set under other names. `left_out`: counts of what was left out of steps and events.
`agent_name` and `job_type` count where neither attributes nor settings give them.
"""


def in_order(columns: Mapping[str, Any]) -> Fields:
    """Return the columns in the order in which a run's line has them."""
    return {name: columns[name] for name in _ORDER if name in columns}


class Agent(NamedTuple):
    """Whose doing a run is: the agent's name, whether it is one, and whether an agent below may give the name.

    `name_in_id`: the name as the run's id has it.
    """

    name: str
    name_in_id: str
    is_agent: bool = True
    takes_child_name: bool = False


class Agents(dict[str, "Agent | None"]):
    """The name that a span's attributes give → whose doing its run is. None for none: that takes a longer look."""

    def __missing__(self, name: str) -> Agent | None:
        known = kept_name(name)
        agent = Agent(known, name_in_id(known)) if name else None
        if len(name) <= MAX_NAME:
            keep(self, name, agent)
        return agent


class Titles(dict[str, str]):
    """Name of a span → the job type that it gives, where neither attributes nor settings do."""

    def __missing__(self, name: str) -> str:
        title = kept_name(name) or "unknown"
        if len(name) <= MAX_NAME:
            keep(self, name, title)
        return title


def keep(known: dict[str, Any], name: str, value: Any) -> None:
    """Remember a value, of at most some thousand: an application that makes names up must not fill the memory."""
    if len(known) >= _MAX_KEPT:
        known.clear()
    known[name] = value


class RunPlan:
    """What some names mean for a run. Safe under threads: at worst two of them compile the same function.

    `attributes`: the plan of the attributes alone. `encode`: the function; None where there is none yet,
    or none that is right. `agent_key`: the name that gives the agent's, where it is one that makes the run an agent's.
    `decides_start`: whether the attributes ask for an id, or give a status, or content may be chosen for the run.
    """

    __slots__ = (
        "_around",
        "_to_come",
        "_to_compile",
        *("agent_key", "attributes", "decides_start", "encode"),
    )

    def __init__(
        self,
        attributes: AttributePlan,
        settings: tuple[str, ...],
        around: Fields,
        *,
        compiled_from: int,
        chooses: bool,
    ) -> None:
        self.attributes = attributes
        self._around = around
        is_plain = attributes.fast and SET_AS_GIVEN.issuperset(name for name in settings if name != _CONTEXT)
        is_small = len(attributes.verdicts) + len(settings) <= MAX_VALUES
        self._to_compile = _MAX_COMPILED if is_plain and is_small else 0
        self._to_come = compiled_from
        first = attributes.agent_names[:1]
        self.agent_key = first[0] if first in ((names.GEN_AI_AGENT_NAME,), (names.AGENT_NAME,)) else ""
        given = attributes.verdicts
        self.decides_start = chooses or names.RUN_ID in given or names.STATUS in given
        self.encode: ColumnsEncoder | None = None

    def reports_use(self, attributes: Mapping[str, Any]) -> bool:
        """Return whether the attributes may say what the run used: tokens, or that it is a call itself."""
        plan = self.attributes
        # The client's own spans say what they are, and no more.
        return plan.reports_use or (plan.counts and attributes.get(names.GEN_AI_OPERATION) != names.INVOKE_AGENT)

    def encoder(self, attributes: Mapping[str, Any], settings: Mapping[str, Any]) -> ColumnsEncoder | None:
        """Return the function for a run that comes before there is one; None until enough of them have come."""
        if self._to_compile == 0 or self._to_come > 1:
            self._to_come -= 1
            return None
        self._compile(attributes, settings)
        return self.encode

    def note_miss(self, attributes: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """Note that the function was not right for a run; after many of them there is one for such runs."""
        self._to_come -= 1
        if self._to_compile > 0 and self._to_come <= 0:
            self._compile(attributes, settings)

    def _compile(self, attributes: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """Generate the function for values of these types; None where none can be right."""
        # Bounded: values of ever other types would have it compile for as long as the process lives.
        self._to_compile, self._to_come = self._to_compile - 1, _MISSES
        self.encode = _ColumnsCode(self.attributes, attributes, settings, self._around).function()


class RunPlans(dict[tuple[tuple[str, ...], tuple[str, ...]], RunPlan]):
    """Names of attributes and of settings → their plan, made when it is asked for.

    `columns`: what resource and process give to every run. `agents`: name of a span → whose doing it is, where
    only the name says so. `named`: the same by the name that attributes give. `titles`: the job types of names.
    """

    __slots__ = ("_plans", "agents", "columns", "named", "titles")

    def __init__(self, plans: AttributePlans, columns: Fields) -> None:
        super().__init__()
        self._plans = plans
        self.agents: dict[str, Agent] = {}
        self.named, self.titles = Agents(), Titles()
        self.columns = columns

    def __missing__(self, key: tuple[tuple[str, ...], tuple[str, ...]]) -> RunPlan:
        if len(self) >= _MAX_PLANS:  # an application that makes names up must not fill the memory
            self.clear()
        plan = self[key] = RunPlan(
            self._plans[key[0]],
            key[1],
            self.columns,
            compiled_from=self._plans.compiled_from,
            chooses=self._plans.chooses,
        )
        return plan


class _ColumnsCode:
    """Writes the function that encodes the columns of runs like one."""

    def __init__(
        self, plan: AttributePlan, attributes: Mapping[str, Any], settings: Mapping[str, Any], around: Fields
    ) -> None:
        self._plan = plan
        self._around = around
        self._values = PlainValues("attributes", attributes)
        self._settings = PlainValues("settings", settings)
        self._set = tuple(name for name in settings if name != _CONTEXT)
        self._conditions: list[str] = []
        self._has_given_context = _CONTEXT in settings
        self._left_out = count_names(name for name in plan.left_over if self._is_left_out(name))

    def function(self) -> ColumnsEncoder | None:
        """Return the function; None where the long way is the only one for such runs."""
        try:
            columns = self._columns()
            context = self._context()
        except _NotPlainError:
            return None
        if context:
            columns[_CONTEXT] = "dumps(context).decode()"
        display = ", ".join(f"{name!r}: {value}" for name, value in in_order({**columns, **_IDENTITY}).items())
        body = [
            *self._values.reading(),
            *self._settings.reading(),
            *leave_unless([*self._values.of_same_types(), *self._settings.of_same_types(), *self._conditions]),
            *leave_if_secret([*self._values.texts(), *self._settings.texts()]),
            *(context or ["if extra or left_out: return None"]),
            f"return dumps({{{display}}})",
        ]
        parameters = "run, attributes, settings, extra, left_out, started, agent_name, job_type"
        return compiled(parameters, body, {"opening": OPENING, "sum_of": sum_of, "own_left_out": self._left_out})

    def _columns(self) -> dict[str, str]:
        """Return column → expression of its value, without those of `_OWN`."""
        columns = {**self._defaults(), **self._conventional(), **self._marked(), **self._set_by_name()}
        if not columns.keys().isdisjoint(_OWN):
            raise _NotPlainError
        columns.setdefault("agent_name", "agent_name")
        if "job_type" not in columns:
            columns["job_type"] = self._job_type()
        return columns

    def _defaults(self) -> dict[str, str]:
        """Return column → literal of what resource and process give."""
        if "@" in self._around.get("git_repo", ""):
            raise _NotPlainError
        return {name: repr(str.__str__(text)) for name, text in self._around.items()}

    def _conventional(self) -> dict[str, str]:
        """Return the columns that attributes of conventions give → the expression of their value."""
        found = {}
        for name, column in self._plan.conventional:
            if column in self._set:
                continue
            value = self._text(self._values, name)
            # A repository's address may hold a password.
            self._conditions += [f"not {value}.startswith({names.DEFAULT_SERVICE!r})", f'"@" not in {value}']
            found[column] = value
        return found

    def _marked(self) -> dict[str, str]:
        """Return the columns that `agent.run.*` sets → the expression of their value."""
        return {
            column: self._column(self._values, name, is_count=is_count)
            for name, column, is_count in self._plan.columns
            if column not in self._set
        }

    def _set_by_name(self) -> dict[str, str]:
        """Return the columns that the client set → the expression of their value."""
        return {name: self._column(self._settings, name, is_count=name in COUNT_COLUMNS) for name in self._set}

    def _column(self, values: PlainValues, name: str, *, is_count: bool) -> str:
        """Return the variable of a column's value, which is checked."""
        if not is_count:
            return self._text(values, name)
        if values.type_of(name) is not int:
            raise _NotPlainError
        value = values.variable(name)
        self._conditions.append(f"0 <= {value} <= {MAX_COUNT}")
        return value

    def _text(self, values: PlainValues, name: str) -> str:
        """Return the variable of a text that is not empty."""
        if values.type_of(name) is not str:
            raise _NotPlainError
        value = values.variable(name)
        self._conditions.append(value)
        return value

    def _job_type(self) -> str:
        """Return the expression of the job type: the first attribute that is not empty, else the span's name."""
        if any(self._values.type_of(name) is not str for name in self._plan.job_types):
            raise _NotPlainError
        return " or ".join((*map(self._values.variable, self._plan.job_types), "job_type"))

    def _is_left_out(self, name: str) -> bool:
        """Return whether an attribute of this type is left out as message content."""
        verdict = self._plan.verdicts[name]
        return verdict is Verdict.PERSON or (verdict is Verdict.CONTENT and self._values.type_of(name) is str)

    def _context(self) -> list[str]:
        """Return the statements that make `context`; none where a run like this has no `context_json`."""
        kept = [name for name in self._plan.left_over if not self._is_left_out(name)]
        if LEFT_OUT_KEY in kept:
            raise _NotPlainError
        members = [f"{name!r}: {self._kept(name)}" for name in kept]
        if self._has_given_context:
            if self._settings.type_of(_CONTEXT) is not dict:
                raise _NotPlainError
            given = self._settings.variable(_CONTEXT)
            self._conditions.append(given)
            members = [f"**{given}", *members]
        if not members and not self._left_out:
            return []
        parts = "(own_left_out, *left_out)" if self._left_out else "left_out"
        return [
            f"context = {{{', '.join(members)}}}",
            "if extra: context |= extra",
            f"if {parts}: context.setdefault({LEFT_OUT_KEY!r}, sum_of({parts}))",
        ]

    def _kept(self, name: str) -> str:
        """Return the variable of an attribute that is kept in `context_json`."""
        kind, verdict, value = self._values.type_of(name), self._plan.verdicts[name], self._values.variable(name)
        if kind not in PLAIN_TYPES or (kind is str and verdict is Verdict.URL):
            raise _NotPlainError
        if kind is str and verdict is Verdict.SHORT:
            self._conditions += are_short([value], self._plan.unknown_max)
        return value


class _NotPlainError(Exception):
    """Only the long way is right for runs with such names or types."""
