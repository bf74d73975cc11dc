"""The shapes of bodies and answers, for OpenAPI. Bodies are checked by `run_bodies`, once.

The columns of a run are described here in one table, from which the models of what is sent
and of what is answered are made.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, create_model

from otel_agent_telemetry.columns import COLUMNS, COUNT_COLUMNS, JSON_COLUMNS, MAX_COUNT, TIME_COLUMNS
from otel_agent_telemetry.model import COMMIT_SOURCES
from otel_agent_telemetry.service.run_bodies import PATCHABLE
from otel_agent_telemetry.status import SPELLINGS, STATUSES

UUID_PATTERN: Final = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
RUN_ID_PATTERN: Final = r"^[^/\\\u0000]*[^/\\\u0000\s][^/\\\u0000]*$"
TIME_PATTERN: Final = (
    r"^(?!0000)\d{4}-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])"
    r"T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?(Z|[+-](0\d|1[0-4]):[0-5]\d)$"
)
"""Narrower than what is taken, which is any ISO 8601 time with a zone."""
_EXAMPLE_ID: Final = "5b8aa5a2-d2c8-8723-ac21-29a9ea6b25ae"
_EXAMPLE_TIME: Final = "2026-01-31T12:00:00.000000+00:00"

Moment = Annotated[str, Field(json_schema_extra={"pattern": TIME_PATTERN})]
StatusWord = Annotated[str, Field(json_schema_extra={"enum": [*SPELLINGS]})]
EventId = Annotated[str, Path(description="The run's idempotency key, a UUID.", examples=[_EXAMPLE_ID])]

_REQUIRED: Final = ("event_id", "run_id", "start_time", "agent_name", "job_type")
_ABOUT: Final = {
    "event_id": "Idempotency key, a UUID: states with one event_id are states of one run.",
    "run_id": "The run's name: 1 to 255 characters, not blank, without /, \\ and NUL.",
    "schema_version": "Of the record.",
    "created_at": "When the run was recorded; else start_time.",
    "updated_at": "When this state was observed: of two states the later stands; else created_at.",
    "start_time": "When the run began.",
    "end_time": "When it ended.",
    "agent_name": "Who ran.",
    "agent_owner": "Who answers for the agent.",
    "job_type": "What it did.",
    "status": "How it ended, or running.",
    "trigger_type": "What started it.",
    "items_discovered": "Items found.",
    "items_succeeded": "Items done.",
    "items_failed": "Items that failed.",
    "items_skipped": "Items left out.",
    "duration_ms": "From start to end.",
    "error_summary": "Why it failed, in one line.",
    "error_details": "The same at length, a stack trace for one.",
    "git_repo": "The repository that it worked in; credentials in it are dropped.",
    "git_commit_hash": "The commit that came of it.",
    "git_commit_source": "Who said so: manual, llm or ci.",
    "metrics_json": "Figures: an object, or the JSON text of one. `gen_ai` holds models, calls and tokens.",
    "context_json": "Whatever else is known: an object, or the JSON text of one.",
    "api_posted": "Whether a webhook was told.",
    "parent_run_id": "run_id of the run around it.",
    "trace_id": "Of its span, 32 hex digits.",
    "span_id": "Of its span, 16 hex digits.",
    "service_name": "service.name of the program.",
}
_EXAMPLES: Final[dict[str, Any]] = {
    "event_id": _EXAMPLE_ID,
    "run_id": "20260131T120000Z-indexer-1f2e3d4c",
    "start_time": _EXAMPLE_TIME,
    "agent_name": "indexer",
    "job_type": "index_folder",
    "status": "success",
    "items_succeeded": 10,
    "duration_ms": 1500,
    "metrics_json": {"files": 10},
}


class _Shape(BaseModel):
    model_config = ConfigDict(extra="allow")


_SMALL: Final = Annotated[int, Field(ge=0, le=2**31 - 1)]
_KINDS: Final[dict[str, Any]] = {
    **dict.fromkeys(COUNT_COLUMNS, Annotated[int, Field(ge=0, le=MAX_COUNT)]),
    "schema_version": _SMALL,
    **dict.fromkeys(TIME_COLUMNS, Moment),
    **dict.fromkeys(JSON_COLUMNS, dict[str, Any]),
    **dict.fromkeys(("agent_name", "job_type"), Annotated[str, Field(min_length=1)]),
    "api_posted": bool | _SMALL,
    "status": Literal[SPELLINGS],
    "git_commit_source": Literal[COMMIT_SOURCES],
    "event_id": Annotated[str, Field(json_schema_extra={"pattern": UUID_PATTERN})],
    **dict.fromkeys(
        ("run_id", "parent_run_id"),
        Annotated[str, Field(min_length=1, max_length=255, json_schema_extra={"pattern": RUN_ID_PATTERN})],
    ),
    "trace_id": Annotated[str, Field(json_schema_extra={"pattern": "^[0-9a-fA-F]{32}$"})],
    "span_id": Annotated[str, Field(json_schema_extra={"pattern": "^[0-9a-fA-F]{16}$"})],
}
"""Column → the type of its values in a body; text where it is not named."""


def _sent(name: str) -> Any:
    """The type of a column as a body may give it."""
    about = _about(name) + (" ISO 8601 with a zone." if name in TIME_COLUMNS else "")
    kind = _KINDS.get(name, str)
    if name in _REQUIRED:
        return (kind, Field(..., description=about))
    return (kind | Literal[""] | None, Field(None, description=about + " Null or empty when it is not known."))


def _about(name: str) -> str:
    return _ABOUT.get(name, f"The run's {name.replace('_', ' ')}.")


def _answered(name: str) -> Any:
    """The type of a column in an answer."""
    about = _about(name)
    if name in COUNT_COLUMNS or name == "schema_version":
        return (int, Field(description=about, ge=0))
    if name == "api_posted":
        return (bool, Field(description=about))
    if name in JSON_COLUMNS:
        return (Any, Field(description=about))
    if name == "status":
        return (Literal[STATUSES], Field(description=about))
    if name in (*_REQUIRED, "created_at", "updated_at"):
        return (str, Field(description=about))
    return (str | None, Field(description=about))


RunState: Final = create_model(
    "RunState",
    __config__=ConfigDict(extra="allow", json_schema_extra={"examples": [_EXAMPLES]}),
    __doc__="One state of one run. Fields that are not listed are kept in context_json.",
    **{name: _sent(name) for name in COLUMNS},
)
RunPatch: Final = create_model(
    "RunPatch",
    __config__=ConfigDict(
        extra="forbid",
        json_schema_extra={"minProperties": 1, "examples": [{"status": "cancelled", "end_time": _EXAMPLE_TIME}]},
    ),
    __doc__="The fields to set.",
    **{name: _sent(name) for name in COLUMNS if name in PATCHABLE},
)
Run: Final = create_model(
    "Run",
    __config__=ConfigDict(extra="forbid"),
    __doc__="A stored run.",
    id=(int, Field(description="Its number in this database, which no other shares.")),
    **{name: _answered(name) for name in COLUMNS},
    commit_url=(str | None, Field(description="Where its commit can be seen.")),
    repo_url=(str | None, Field(description="Where its repository can be seen.")),
)


_COMMIT_EXAMPLE: Final[dict[str, Any]] = {"commit_hash": "a1b2c3d4e5f6", "commit_source": "llm"}


class CommitBody(_Shape):
    """A commit that came of a run."""

    model_config = ConfigDict(json_schema_extra={"examples": [_COMMIT_EXAMPLE]})

    commit_hash: str = Field(json_schema_extra={"pattern": "^[0-9a-fA-F]{7,40}$"}, examples=["a1b2c3d4e5f6"])
    commit_source: Literal["manual", "llm", "ci"]
    commit_author: str | None = None
    commit_timestamp: Moment | Literal[""] | None = None


class CommitOfRun(CommitBody):
    """A commit, and the run by its run_id."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_COMMIT_EXAMPLE, "run_id": _EXAMPLES["run_id"]}]})

    run_id: str = Field(min_length=1, max_length=255, json_schema_extra={"pattern": RUN_ID_PATTERN})
    associated_at: Moment | Literal[""] | None = Field(
        None, description="When it was told: of two commits of a run the later shows. Else now."
    )


class Problem(BaseModel):
    """Why something was not done."""

    detail: str


class RunKept(BaseModel):
    """What became of a state."""

    status: Literal["created", "updated", "duplicate"]
    event_id: str
    run_id: str | None = None
    message: str | None = None


class ItemProblem(BaseModel):
    """What is wrong with one item of a batch."""

    index: int
    event_id: str | None
    reason: str


class BatchKept(BaseModel):
    """What became of a batch: the numbers add up to `total`."""

    inserted: int
    updated: int
    duplicates: int
    errors: list[ItemProblem]
    total: int


class CommitsKept(BaseModel):
    """What became of commits: `pending` ones wait for their run."""

    linked: int
    pending: int
    errors: list[ItemProblem]
    total: int


class RunPatched(BaseModel):
    """What a PATCH did; `updated` is false when all was so already."""

    event_id: str
    updated: bool
    fields_updated: list[str]


class CommitAssociated(BaseModel):
    """A commit shows in its run."""

    status: Literal["success"]
    event_id: str
    run_id: str
    commit_hash: str


class CommitUrl(BaseModel):
    """Where a commit can be seen."""

    commit_url: str | None


class RepoUrl(BaseModel):
    """Where a repository can be seen."""

    repo_url: str | None


class Event(BaseModel):
    """Something that happened during a run."""

    event_id: str
    run_id: str
    event_type: str
    timestamp: str
    payload: Any
    trace_id: str | None
    span_id: str | None


class Step(BaseModel):
    """A child span of a run."""

    event_id: str
    run_id: str
    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    kind: str
    status: str
    status_message: str | None
    start_time: str
    end_time: str | None
    duration_ms: int
    attributes: dict[str, Any]


class Metadata(BaseModel):
    """Agents and job types, each with its number of runs."""

    agent_names: dict[str, int]
    job_types: dict[str, int]


class FieldValues(BaseModel):
    """The values of one field."""

    field: str
    values: list[str]
    truncated: bool


class Health(BaseModel):
    """Whether runs can be kept."""

    status: Literal["ok"]
    version: str
    db_path: str
    journal_mode: str | None
    synchronous: str | None


class Version(BaseModel):
    """Which service this is."""

    version: str
    schema_version: int


class Metrics(BaseModel):
    """Figures of the runs and of the service."""

    total_runs: int
    agents: dict[str, int]
    recent_24h: int
    statuses: dict[str, int]
    performance: dict[str, Any]


BODIES: Final[tuple[type[BaseModel], ...]] = (RunState, RunPatch, CommitBody, CommitOfRun)
"""Models that `body` names; `openapi` puts them among the components."""

LINK_HEADER: Final = {"Link": {"description": 'The next page, rel="next".', "schema": {"type": "string"}}}
_RETRY_AFTER: Final = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
_PROBLEMS: Final = {
    400: "The request is malformed.",
    404: "There is no such run.",
    413: "The body is too large.",
    415: "The body is of a kind that is not taken.",
    422: "A value breaks a rule.",
    429: "Too many requests from this address.",
    503: "Nothing can be kept or read now; trying later helps.",
}


def answers(model: Any, *statuses: int, headers: dict[str, Any] | None = None) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an endpoint: the first status is the good one, with the model."""
    good, *bad = statuses
    told: dict[int | str, dict[str, Any]] = {good: {"model": model, **({"headers": headers} if headers else {})}}
    for status in (*bad, 401, 408):
        told[status] = {"model": Problem, "description": _PROBLEMS.get(status, "")}
    told[401]["description"] = "The bearer token is missing or wrong."
    told[408]["description"] = "The body did not arrive in time."
    for status in {429, 503} & told.keys():
        told[status]["headers"] = _RETRY_AFTER
    return told


def body(name: str, *, many: bool = False) -> dict[str, Any]:
    """The `openapi_extra` of an endpoint that takes this model as its JSON body."""
    one = {"$ref": f"#/components/schemas/{name}"}
    schema = {"type": "array", "items": one, "maxItems": 10_000} if many else one
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
