"""The models of responses about all runs: deletions and their receipts, digests to compare by, figures of an audit."""

from __future__ import annotations

from typing import Any, Final, Literal, get_type_hints

from pydantic import BaseModel, create_model

from otel_agent_telemetry.storage.audit_queries import RunFigures


def model_of(values: type[Any], name: str, about: str) -> type[BaseModel]:
    """Return the model of a response that holds the fields of a dataclass, each of which is always there.

    `name` is that of the component in the OpenAPI document, `about` its description.
    """
    # No defaults: a response names every field, and clients may rely on that.
    members: dict[str, Any] = {field: (kind, ...) for field, kind in get_type_hints(values).items()}
    return create_model(name, __doc__=about, **members)


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


Audit: Final = model_of(
    RunFigures, "Audit", "Figures over all runs; `rows` are counts by table, `bytes` the size of the database."
)
