"""The models of request and response bodies beside those of a run (`run_schemas`), for the OpenAPI document.

`COMPONENTS` lists every model that an operation refers to by name, those of the other two modules included.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from otel_agent_telemetry.argument_types import CommitSource
from otel_agent_telemetry.model import RunEvent, RunSpan
from otel_agent_telemetry.service.alert_schemas import AlertRule, Alerts, DryRun, FileProblem, PastAlert, StoredAlert
from otel_agent_telemetry.service.audit_schemas import (
    Audit,
    DayDigests,
    Deletions,
    LineDigests,
    RunDeleted,
    RunDigests,
    model_of,
)
from otel_agent_telemetry.service.run_schemas import EXAMPLE_RUN, RUN_ID_PATTERN, Moment, Run, RunBody, RunPatch
from otel_agent_telemetry.service.stats_schemas import Stats, StatsLine

_COMMIT_EXAMPLE: Final[dict[str, Any]] = {"commit_hash": "a1b2c3d4e5f6", "commit_source": "llm"}


class _OpenModel(BaseModel):
    """A model whose bodies may have further members."""

    model_config = ConfigDict(extra="allow")


class CommitBody(_OpenModel):
    """A commit that a run made."""

    model_config = ConfigDict(json_schema_extra={"examples": [_COMMIT_EXAMPLE]})

    commit_hash: str = Field(json_schema_extra={"pattern": "^[0-9a-fA-F]{7,64}$"}, examples=["a1b2c3d4e5f6"])
    commit_source: CommitSource
    commit_author: str | None = None
    commit_timestamp: Moment | Literal[""] | None = None


class CommitOfRun(CommitBody):
    """A commit, and the run by its run_id."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_COMMIT_EXAMPLE, "run_id": EXAMPLE_RUN["run_id"]}]})

    run_id: str = Field(min_length=1, max_length=255, json_schema_extra={"pattern": RUN_ID_PATTERN})
    associated_at: Moment | Literal[""] | None = Field(
        None, description="When it was associated: of two commits of a run the later is shown. Default now."
    )


class Problem(BaseModel):
    """Why a request failed."""

    detail: str


class RunStored(BaseModel):
    """The outcome of storing one state."""

    status: Literal["created", "updated", "duplicate", "deleted"]
    event_id: str
    run_id: str | None = None
    message: str | None = None


class ItemError(BaseModel):
    """Why one item of a batch was refused."""

    index: int
    event_id: str | None
    reason: str


class BatchStored(BaseModel):
    """The outcome of a batch: `inserted`, `updated`, `duplicates` and the errors add up to `total`.

    `deleted` says how many of the duplicates are states of runs that were deleted, where there are any.
    """

    inserted: int
    updated: int
    duplicates: int
    deleted: int = 0
    errors: list[ItemError]
    total: int


class CommitsStored(BaseModel):
    """The outcome of a batch of commits: `pending` ones wait for their run."""

    linked: int
    pending: int
    errors: list[ItemError]
    total: int


class LineRefused(BaseModel):
    """A line that is not stored: its number in the body, from 1, and why."""

    line: int
    reason: str


class RecordsStored(BaseModel):
    """The outcome of lines of a journal: how many there were, and how many records of each type they hold.

    A commit association counts as an event and as a commit. Of `torn` lines the whole records are stored. `store` is
    the id of the database that has them, as in `/version`.
    """

    lines: int
    runs: int
    events: int
    spans: int
    commits: int
    torn: int
    refused: list[LineRefused]
    store: str | None


class RunPatched(BaseModel):
    """What a PATCH changed; `updated` is false when nothing differed. `ignored`: names that cannot be changed."""

    event_id: str
    updated: bool
    fields_updated: list[str]
    ignored: list[str]


class CommitAssociated(BaseModel):
    """A commit is shown in its run."""

    status: Literal["success"]
    event_id: str
    run_id: str
    commit_hash: str


class CommitUrl(BaseModel):
    """The web page of a commit."""

    commit_url: str | None


class RepoUrl(BaseModel):
    """The web page of a repository."""

    repo_url: str | None


Event: Final = model_of(RunEvent, "Event", "An event of a run.")
Step: Final = model_of(RunSpan, "Step", "A child span of a run.")


class Metadata(BaseModel):
    """Agents and job types, each with its number of runs."""

    agent_names: dict[str, int]
    job_types: dict[str, int]


class FieldValues(BaseModel):
    """The distinct values of one field."""

    field: str
    values: list[str]
    truncated: bool


class ServiceHealth(BaseModel):
    """Whether runs can be stored."""

    status: Literal["ok"]
    version: str
    db_path: str
    journal_mode: str | None
    synchronous: str | None


class Version(BaseModel):
    """The version of the service; `records` is that of `POST /api/v1/records`, `store` the id of its database."""

    version: str
    schema_version: int
    package: str
    records: int
    store: str | None


class Metrics(BaseModel):
    """Metrics of the runs and of the service."""

    total_runs: int
    agents: dict[str, int]
    recent_24h: int
    statuses: dict[str, int]
    performance: dict[str, Any]
    deliverers: dict[str, Any]
    refused: dict[str, int]
    logs_not_kept: dict[str, int]


COMPONENTS: Final[tuple[type[BaseModel], ...]] = (
    *(RunBody, RunPatch, CommitBody, CommitOfRun),
    *(Run, RunStored, BatchStored, RunDeleted, RunPatched, CommitAssociated, CommitsStored, CommitUrl, RepoUrl),
    *(Event, Step, RecordsStored, LineRefused, DayDigests, RunDigests, LineDigests, Deletions, Audit),
    *(FileProblem, AlertRule, StoredAlert, Alerts, PastAlert, DryRun, Stats, StatsLine),
    *(Metadata, FieldValues, ServiceHealth, Version, Metrics, Problem),
)
"""The models that the operations refer to by name."""
