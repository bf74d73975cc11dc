"""The models of responses about all runs: deletions and their receipts, digests to compare by, figures of an audit."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class DeletedRun(BaseModel):
    """A run that was deleted with the run that it was inside of."""

    event_id: str
    run_id: str
    deleted_at: str


class RunDeleted(BaseModel):
    """The receipt of a deletion; `deleted_by` is the name of the token."""

    status: Literal["deleted"]
    event_id: str
    run_id: str
    deleted_at: str
    deleted_by: str
    runs_inside: list[DeletedRun]


class HostDigest(BaseModel):
    """The runs of one host on a day; `host` is empty for runs that name none."""

    host: str
    runs: int
    digest: str


class DayDigests(BaseModel):
    """The runs of a day by host."""

    day: str
    hosts: list[HostDigest]


class RunDigests(BaseModel):
    """Runs, each as `[event_id, status, updated_at, digest]`; `next` continues, null at the end."""

    runs: list[list[str | int]]
    next: int | None


class LineDigests(BaseModel):
    """The ranges in their order, each as `[events, steps, digest]`."""

    ranges: list[tuple[int, int, str]]


class Receipt(BaseModel):
    """What is left of a deleted run."""

    event_id: str
    run_id: str
    deleted_at: str
    deleted_by: str


class Deletions(BaseModel):
    """Receipts in the order of `event_id`; `next` continues.

    `cutoff`: older runs were deleted by retention; `parts_cutoff`: older events and steps.
    """

    cutoff: str | None
    parts_cutoff: str | None
    deleted: list[Receipt]
    next: str | None


class AgentFigures(BaseModel):
    """One agent's runs; durations in ms of those that have ended."""

    agent_name: str
    runs: int
    ended: int
    succeeded: int
    failed: int
    median_ms: int | None
    p95_ms: int | None


class OpenRun(BaseModel):
    """A run that has not ended."""

    run_id: str
    agent_name: str
    job_type: str
    start_time: str


class Audit(BaseModel):
    """Figures over all runs; `rows` are counts by table, `bytes` the size of the database."""

    agents: list[AgentFigures]
    statuses: dict[str, int]
    days: dict[str, int]
    open: list[OpenRun]
    oldest: str | None
    newest: str | None
    rows: dict[str, int]
    bytes: int
