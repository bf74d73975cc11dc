"""What goes to a target, what it answers, and when to ask again. Expected outcomes are values, not exceptions.

`Pending` collects the lines of several segments into one `Batch`; `Target` is what delivers it;
`Backoff` decides how long to wait after a `RetryLater`.

The waits are pure policies: whoever retries does the waiting. Delivery is tried for ever, up to
0.5 s, 1 s, 2 s … 60 s apart with full jitter. A webhook is tried four times, after 1, 2 and 4 s
(contract, "External posting"). A target that names a time itself (Retry-After) is never asked
before it, up to five minutes. No retry library is used, because a recording process imports
nothing third-party on its background thread.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from otel_agent_telemetry.bisection import Bisection
from otel_agent_telemetry.columns import POSTING_COLUMNS, Fields
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.interpreter import importing
from otel_agent_telemetry.journal import JournalPart
from otel_agent_telemetry.run_state import checked_state, merged_state
from otel_agent_telemetry.status import RUNNING
from otel_agent_telemetry.wire import COMMIT_EVENT, EVENT, RUN, Line

if TYPE_CHECKING:  # record classes are made where somebody works with them
    from otel_agent_telemetry.model import CommitLink, RunRecord


MAX_BATCH_RECORDS: Final = 500
MAX_BATCH_BYTES: Final = 8 << 20
MAX_RETRY_AFTER_S: Final = 300.0
POSTING_WAITS_S: Final = (1.0, 2.0, 4.0)
_RUNS_BETWEEN_RESTS: Final = 50
_FIRST_S: Final = 0.5
_LONGEST_S: Final = 60.0
_DOUBLINGS: Final = 7
_random: Final = random.SystemRandom()  # the application's own sequence of numbers stays as it is


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines of the `wire` format to be delivered together, of any type.

    A `run` line is a checked state (`run_state.checked_state`), each run at most once; an
    `event` line of type `agent.run.commit` a checked association. A target passes over types
    that it has no place for.
    """

    lines: tuple[Line, ...] = ()

    @classmethod
    def of(cls, records: Iterable[RunRecord] = (), links: Iterable[CommitLink] = ()) -> Batch:
        """Return a batch of record objects: the runs first, then the associations."""
        runs = ({"record_type": RUN, **record.to_fields()} for record in records)
        return cls((*runs, *map(link_line, links)))

    @property
    def records(self) -> tuple[RunRecord, ...]:
        """Return the run states as record objects, for readers that work with these."""
        with importing():
            from otel_agent_telemetry.model import RunRecord

        return tuple(RunRecord.from_fields(state) for state in self.states)

    @property
    def runs(self) -> list[Line]:
        """Return the `run` lines."""
        return [line for line in self.lines if line["record_type"] == RUN]

    @property
    def states(self) -> list[Fields]:
        """Return the run states, without the `record_type` of their lines."""
        return [{name: value for name, value in line.items() if name != "record_type"} for line in self.runs]

    @property
    def links(self) -> tuple[CommitLink, ...]:
        """Return the commit associations as record objects."""
        with importing():
            from otel_agent_telemetry.model import CommitLink

        return tuple(CommitLink.from_event(line) for line in self.lines if is_link(line))

    def __len__(self) -> int:
        return len(self.lines)


def is_link(line: Line) -> bool:
    """Return whether a line is a commit association."""
    return line["record_type"] == EVENT and line.get("event_type") == COMMIT_EVENT


def link_line(link: CommitLink) -> Line:
    """Return a commit association as its line."""
    payload = asdict(link)
    head = {"record_type": EVENT, "run_id": payload.pop("run_id"), "event_type": COMMIT_EVENT}
    return {**head, "timestamp": link.associated_at, "payload": payload}


class Rejected(NamedTuple):
    """The target will never take this line: its position in the batch and why."""

    position: int
    reason: str


class Delivered(NamedTuple):
    """The target has committed the batch, except for the lines named."""

    rejected: tuple[Rejected, ...] = ()


class RetryLater(NamedTuple):
    """Nothing is confirmed. Try the same again, not before `after_s` where the target asked for that."""

    reason: str
    after_s: float | None = None


Outcome = Delivered | RetryLater


class Target(Protocol):
    """Where batches go: a service, a database. `tests/delivery/test_target_contract.py` holds what each must do.

    Used by one thread at a time; may block, so never by the application's.
    """

    name: str
    """For people: a database path or a URL, without credentials."""

    def deliver(self, batch: Batch) -> Outcome:
        """Hand the batch over; return `Delivered` only when it is committed.

        The same batch again changes nothing. Whatever a network, a server or a disk does is an
        outcome; an exception is a fault of ours.
        """

    def close(self) -> None:
        """Close connections. Idempotent."""


def reject_each(batch: Batch, reason: str) -> Delivered:
    """Return the outcome of a batch of which nothing can be taken."""
    return Delivered(tuple(Rejected(position, reason) for position in range(len(batch))))


def deliver_bisected(target: Target, batch: Batch, reason: str) -> Outcome:
    """Find the items of a refused batch that cause the refusal, by delivering its halves.

    A batch of one is the cause itself. Neighbours of a poisonous item go through
    (invariant 5); a half that must wait makes the whole wait.
    """
    bisection = Bisection(range(len(batch)), refusal=reason)
    rejected: list[Rejected] = []
    for part in bisection:
        outcome = target.deliver(Batch(batch.lines[part[0] : part[-1] + 1]))
        if isinstance(outcome, RetryLater):
            return outcome
        rejected.extend(Rejected(part[0] + item.position, item.reason) for item in outcome.rejected)
    return Delivered((*rejected, *(Rejected(*refused) for refused in bisection.refused)))


class Backoff:
    """How long to wait after each of several failures in a row."""

    def __init__(self) -> None:
        self._failures = 0

    def after(self, outcome: RetryLater) -> float:
        """Return the seconds from this failure to the next attempt."""
        most = min(_FIRST_S * 2**self._failures, _LONGEST_S)
        self._failures = min(self._failures + 1, _DOUBLINGS)
        return as_asked(outcome, _random.uniform(0, most))

    def reset(self) -> None:
        """Begin anew: an attempt has worked."""
        self._failures = 0


def as_asked(outcome: RetryLater, usual_s: float) -> float:
    """Return the usual wait, or what the target asked for where that is longer, up to five minutes."""
    return usual_s if outcome.after_s is None else max(usual_s, min(outcome.after_s, MAX_RETRY_AFTER_S))


class SegmentProgress:
    """How far one segment was read and confirmed, in bytes."""

    __slots__ = ("acked", "number", "path", "read", "sealed")

    def __init__(self, number: int, path: Path, acked: int, read: int = 0) -> None:
        self.number = number
        self.path = path
        self.acked = acked
        self.read = read
        self.sealed = False


class Pending:
    """Records on their way into one batch. Not thread-safe."""

    def __init__(self) -> None:
        self._runs: dict[str, list[Line]] = {}
        self._links: list[Line] = []
        self._no_records: list[tuple[Line, str]] = []
        self._bytes = 0
        self.torn_lines = 0
        self.reach: dict[SegmentProgress, int] = {}

    def add(self, part: JournalPart, segment: SegmentProgress) -> None:
        """Take in the lines of a segment that were read last."""
        runs = self._runs
        for record in part.records:
            if record["record_type"] == RUN:
                # As text, whatever it is: what is no event id shows when the state is checked.
                key = str(record.get("event_id")).lower()
                if key in runs:
                    runs[key].append(record)
                else:
                    runs[key] = [record]
            elif is_link(record):
                self._links.append(record)
        self.reach[segment] = segment.read
        self._bytes += part.size
        self.torn_lines += part.torn

    @property
    def full(self) -> bool:
        """Return whether the batch has its size: 500 records or 8 MiB of lines; what is read together may exceed it."""
        return len(self._runs) + len(self._links) >= MAX_BATCH_RECORDS or self._bytes >= MAX_BATCH_BYTES

    def batch(self, rest: Callable[[], None] = lambda: None) -> Batch:
        """Return what to hand to the target: runs first, each once, in the state that stands. Called once.

        `rest` is called after each 50 runs, some half a millisecond.
        """
        runs: list[Line] = []
        for number, lines in enumerate(self._runs.values(), 1):
            if (standing := self._standing(lines)) is not None:
                runs.append(standing)
            if number % _RUNS_BETWEEN_RESTS == 0:
                rest()
        return Batch((*runs, *filter(None, (self._checked(link, _checked_link) for link in self._links))))

    def _standing(self, lines: list[Line]) -> Line | None:
        """Return the line of what stands of the states of one run; None where none is a state."""
        stands: Line | None = None
        for line in reversed(lines):
            if stands is not None and _adds_nothing(line, stands):
                continue
            state = self._checked(line, _checked_run)
            if state is not None:
                stands = state if stands is None else merged_state(state, stands)
        return stands

    def _checked(self, line: Line, check: Callable[[Line], Line]) -> Line | None:
        """Return what a check makes of a line; None, and the line is noted with the reason, where it is no record."""
        try:
            return check(line)
        except RecordError as problem:
            # Not raised: one line that breaks a rule must not keep back every record behind it.
            self._no_records.append((line, str(problem)))
            return None

    def refused(self, batch: Batch, outcome: Delivered) -> list[tuple[Line, str]]:
        """Return what must be set aside and why: lines that are no records, and those that the target refused."""
        return [*self._no_records, *((batch.lines[item.position], item.reason) for item in outcome.rejected)]


def _checked_run(line: Line) -> Line:
    """Return the line of a run state with its columns checked. Raises RecordError."""
    state = checked_state(line)
    state["record_type"] = RUN
    return state


def _checked_link(line: Line) -> Line:
    """Return the line of a commit association, checked. Raises RecordError."""
    with importing():
        from otel_agent_telemetry.model import CommitLink

    return link_line(CommitLink.from_event(line))


def _adds_nothing(line: Line, stands: Fields) -> bool:
    """Return whether a line of a run need not be looked at beside a state of the run: that it began, beside its end."""
    # Most runs begin and end between two passes, so this spares the check of every other line.
    return stands["status"] != RUNNING and line.get("status") == RUNNING and line.keys().isdisjoint(POSTING_COLUMNS)
