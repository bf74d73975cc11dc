"""Turns: the runs that a coding agent's log records describe, one for each prompt of a session. Pure.

Such an agent reports a prompt, and then what it does about it, each as a log record. The records of a session
that one program sends are a *stretch*; they come in any order, some twice, and some late. So nothing here depends on
when a record came:

    which turn a record is of   the one that its prompt id names, else that of the last prompt before it (`turn_of`)
    what a turn adds up to      a sum over its records, in any order and grouping (`Figures`)
    the row of the run          made from those two and whether the turn is over (`turn_state`)

A turn is over when another prompt follows in its stretch, when its agent says so, or after a silence. Its last sign
of life is its end. Records before the first prompt that is known are of no turn yet.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from otel_agent_telemetry import status as st
from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.columns import SCHEMA_VERSION, Fields
from otel_agent_telemetry.model import RunSpan
from otel_agent_telemetry.run_id import generate_run_id
from otel_agent_telemetry.usage import Usage, added, failure_of_last_call

Role = Literal[
    "begins",
    "model_call",
    "model_error",
    "model_gave_up",
    "tool_call",
    "tool_decision",
    "error",
    "ends",
    "sign",
    "nothing",
    "other",
]
"""What a record means for its turn.

`begins`: a prompt. `model_call`, `tool_call`: one call that has ended; `model_error`: a call that failed,
`model_gave_up`: calls that failed are not tried again. `tool_decision`: whether a tool may be called. `error`: another
error. `ends`: the turn is over. `sign`: it is alive. `nothing`: says nothing of a turn. `other`: an event whose name is
not known.
"""

SILENT: Final = "no further telemetry"
"""The summary of a turn of which nothing but the prompt is known."""
UNKNOWN: Final = -1
"""A time or number that is not known."""
_NO_WORK: Final = frozenset({"begins", "sign", "ends", "nothing"})

Order = tuple[int, int, int, str]
"""Time, number in the session, whether it is no prompt, id: where a record stands in its stretch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRecord:
    """One log record of a coding agent's session.

    `identity`: a digest of the record within its stretch. `stretch`: a digest of agent, host and session. `prompt`:
    one of the prompt id, "" without one. `own_turn`: the turn that the record itself names, or begins; "" where the
    other records decide. `time_ns`: nanoseconds since 1970. `sequence`: its number in the session, UNKNOWN without.
    `silent_ns`: when there has been silence, if it is the last record. `usage`: what it adds to its turn.
    `span_is_run`: whether it carries the ids of the span that is the same run. `step`: the call that it reports, with
    the stretch for a trace id. `base`: columns of the run as far as it knows them.
    """

    identity: str
    stretch: str
    prompt: str = ""
    own_turn: str = ""
    role: Role
    name: str
    time_ns: int
    sequence: int = UNKNOWN
    silent_ns: int
    trace_id: str = ""
    span_id: str = ""
    span_is_run: bool = False
    usage: Usage = field(default_factory=dict)
    step: RunSpan | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)
    base: Fields = field(default_factory=dict)

    @property
    def order(self) -> Order:
        """Return where the record stands: at the same time a prompt is before what follows it."""
        return (self.time_ns, self.sequence, 1, "")


class Begin(NamedTuple):
    """The prompt that begins a turn."""

    order: Order
    prompt: str
    turn_id: str


def begin_of(turn_id: str, prompt: str, *, time_ns: int, sequence: int) -> Begin:
    """Return the beginning of a turn; prompts of one time are ordered by their turns' ids."""
    return Begin((time_ns, sequence, 0, turn_id), prompt, turn_id)


def turn_of(record: TurnRecord, begins: Sequence[Begin]) -> str:
    """Return the id of the turn that a record is of; "" where no prompt before it is known.

    `begins`: of the record's stretch, in order; those before and with its prompt id must be among them.
    """
    if record.own_turn:
        return record.own_turn
    if record.prompt and (same := [begin for begin in begins if begin.prompt == record.prompt]):
        # Of several prompts with one id the last before the record; clocks may put it before the first.
        return next((begin for begin in reversed(same) if begin.order <= record.order), same[0]).turn_id
    at = bisect_right(begins, record.order, key=lambda begin: begin.order)
    return begins[at - 1].turn_id if at else ""


@dataclass(frozen=True, slots=True)
class Figures:
    """What records of one turn add up to; `merged` in any order and grouping gives the same.

    `first_ns`, `last_ns`: the first and last sign of life. `silent_ns`: when there has been silence after them.
    `ended_ns`: when the agent last said that the turn is over. `work`: how many records show more than a prompt.
    """

    first_ns: int = UNKNOWN
    last_ns: int = UNKNOWN
    silent_ns: int = UNKNOWN
    ended_ns: int = UNKNOWN
    work: int = 0
    usage: Usage = field(default_factory=dict)

    @property
    def is_ended(self) -> bool:
        """Return whether the agent has said that the turn is over, and nothing came after that."""
        return UNKNOWN < self.last_ns <= self.ended_ns

    def members(self) -> dict[str, Any]:
        """Return the figures as an object for JSON; its members are the constructor's arguments."""
        return {name: getattr(self, name) for name in self.__slots__}


def figures_of(records: Iterable[TurnRecord]) -> Figures:
    """Return what records add up to."""
    return merged(map(_figures_of_one, records))


def _figures_of_one(record: TurnRecord) -> Figures:
    """Return what one record adds."""
    if record.role == "nothing":
        return Figures(usage=record.usage)
    return Figures(
        first_ns=record.time_ns,
        last_ns=record.time_ns,
        silent_ns=record.silent_ns,
        ended_ns=record.time_ns if record.role == "ends" else UNKNOWN,
        work=0 if record.role in _NO_WORK else 1,
        usage=record.usage,
    )


def merged(parts: Iterable[Figures]) -> Figures:
    """Return the sum of figures."""
    # Minima, maxima and sums alone: anything else would depend on the order in which records come.
    parts = list(parts)
    return Figures(
        first_ns=min((one.first_ns for one in parts if one.first_ns != UNKNOWN), default=UNKNOWN),
        last_ns=max((one.last_ns for one in parts), default=UNKNOWN),
        silent_ns=max((one.silent_ns for one in parts), default=UNKNOWN),
        ended_ns=max((one.ended_ns for one in parts), default=UNKNOWN),
        work=sum(one.work for one in parts),
        usage=added(one.usage for one in parts),
    )


def turn_state(event_id: str, base: Fields, figures: Figures, *, began_ns: int, is_over: bool) -> Fields:
    """Return the state of the run that a turn is.

    `base`: the columns that its prompt gives. `began_ns`: the time of the prompt, UNKNOWN for one that is missing.
    While the turn is not over the state does not change with what arrives, so that nothing is written again and
    again; the figures stand beside it.
    """
    start_ns = figures.first_ns if began_ns == UNKNOWN else began_ns
    started = iso_utc(start_ns)
    state: Fields = {
        **base,
        "event_id": event_id,
        "run_id": generate_run_id(base["agent_name"], at_ns=start_ns, token=event_id[:8]),
        "schema_version": SCHEMA_VERSION,
        "created_at": started,
        "start_time": started,
        "updated_at": started,
        "status": st.RUNNING,
    }
    if not is_over:
        return state
    end_ns = max(figures.last_ns, start_ns)
    failure = failure_of_last_call(figures.usage) or (None if figures.work else SILENT)
    state |= {
        "status": st.SUCCESS if failure is None else st.FAILED,
        "end_time": iso_utc(end_ns),
        "updated_at": iso_utc(end_ns),
        "duration_ms": (end_ns - start_ns) // 1_000_000,
    }
    return state if failure is None else {**state, "error_summary": failure}
