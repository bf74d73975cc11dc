"""What a target says of a batch. Expected outcomes are values, not exceptions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from otel_agent_telemetry.bisection import Bisection
from otel_agent_telemetry.model import CommitLink, RunRecord


@dataclass(frozen=True, slots=True)
class Batch:
    """Run states, each run at most once, and commit associations, to be delivered together."""

    records: tuple[RunRecord, ...] = ()
    links: tuple[CommitLink, ...] = ()

    def __len__(self) -> int:
        return len(self.records) + len(self.links)


@dataclass(frozen=True, slots=True)
class Rejected:
    """The target will never take this item: its position (records first, then links) and why."""

    position: int
    reason: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """The target has committed the batch, but for the items named."""

    rejected: tuple[Rejected, ...] = ()


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Nothing is confirmed. Try the same again, not before `after_s` where the target said so."""

    reason: str
    after_s: float | None = None


Outcome = Delivered | RetryLater


class Target(Protocol):
    """Where batches go. Used by one thread at a time; may block, so never by the application's."""

    name: str
    """For people: a database path or a URL, without credentials."""

    def deliver(self, batch: Batch) -> Outcome:
        """Hand the batch over; `Delivered` only when it is committed.

        Never raises for what a target may do; a bug may.
        """

    def close(self) -> None:
        """Give up connections. Idempotent."""


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
        outcome = target.deliver(_part(batch, part[0], part[-1] + 1))
        if isinstance(outcome, RetryLater):
            return outcome
        rejected.extend(Rejected(part[0] + item.position, item.reason) for item in outcome.rejected)
    return Delivered((*rejected, *(Rejected(*refused) for refused in bisection.refused)))


def _part(batch: Batch, start: int, end: int) -> Batch:
    first_link = len(batch.records)
    return Batch(batch.records[start:end], batch.links[max(start - first_link, 0) : max(end - first_link, 0)])
