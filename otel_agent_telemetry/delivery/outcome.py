"""What goes to a target, and what it answers. Expected outcomes are values, not exceptions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

from otel_agent_telemetry.bisection import Bisection
from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.wire import EVENT, RUN, Line

if TYPE_CHECKING:  # record classes are made where somebody works with them
    from otel_agent_telemetry.model import CommitLink, RunRecord


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
        """The run states as record objects, for readers that work with these."""
        from otel_agent_telemetry.model import RunRecord

        return tuple(RunRecord.from_fields(state) for state in self.states)

    @property
    def states(self) -> list[Fields]:
        """The run states, without the `record_type` of their lines."""
        return [
            {name: value for name, value in line.items() if name != "record_type"}
            for line in self.lines
            if line["record_type"] == RUN
        ]

    @property
    def links(self) -> tuple[CommitLink, ...]:
        """The commit associations as record objects."""
        from otel_agent_telemetry.model import CommitLink

        return tuple(CommitLink.from_event(line) for line in self.lines if is_link(line))

    def __len__(self) -> int:
        return len(self.lines)


def is_link(line: Line) -> bool:
    """Return whether a line is a commit association."""
    if line["record_type"] != EVENT:
        return False
    from otel_agent_telemetry.model import COMMIT_EVENT

    return bool(line.get("event_type") == COMMIT_EVENT)


def link_line(link: CommitLink) -> Line:
    """Return a commit association as its line."""
    from otel_agent_telemetry.model import COMMIT_EVENT

    payload = asdict(link)
    head = {"record_type": EVENT, "run_id": payload.pop("run_id"), "event_type": COMMIT_EVENT}
    return {**head, "timestamp": link.associated_at, "payload": payload}


@dataclass(frozen=True, slots=True)
class Rejected:
    """The target will never take this line: its position in the batch and why."""

    position: int
    reason: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """The target has committed the batch, except for the lines named."""

    rejected: tuple[Rejected, ...] = ()


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Nothing is confirmed. Try the same again, not before `after_s` where the target said so."""

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
    """The outcome of a batch of which nothing can be taken."""
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
