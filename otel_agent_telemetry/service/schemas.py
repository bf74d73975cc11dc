"""The models of request and response bodies, for the OpenAPI document.

Request bodies are validated by `run_bodies`, not by these models (see `openapi`). The models
of a run follow from `columns.TABLE`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from otel_agent_telemetry.argument_types import CommitSource, RunStatus
from otel_agent_telemetry.columns import FALLBACKS, MAX_COUNT, MAY_MISFIT, TABLE, Column, Kind
from otel_agent_telemetry.service.audit_schemas import Audit, DayDigests, Deletions, RunDeleted, RunDigests
from otel_agent_telemetry.status import SPELLINGS
from otel_agent_telemetry.storage.queries import PLUMBING_HEADER

UUID_PATTERN: Final = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
RUN_ID_PATTERN: Final = r"^[^/\\\u0000]*[^/\\\u0000\s][^/\\\u0000]*$"
TIME_PATTERN: Final = (
    r"^(?!0000)\d{4}-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])"
    r"T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?(Z|[+-](0\d|1[0-4]):[0-5]\d)$"
)
"""Narrower than what is accepted, which is any ISO 8601 time with a zone."""
_EXAMPLE_ID: Final = "5b8aa5a2-d2c8-8723-ac21-29a9ea6b25ae"
_EXAMPLE_TIME: Final = "2026-01-31T12:00:00.000000+00:00"

Moment = Annotated[str, Field(json_schema_extra={"pattern": TIME_PATTERN})]
StatusWord = Annotated[str, Field(json_schema_extra={"enum": [*SPELLINGS]})]
REFERENCE: Final = "#/components/schemas/{model}"


class EventIdPath(BaseModel):
    """The path parameter of every operation on one run."""

    event_id: str = Field(
        description="The run's idempotency key, a UUID; in databases of version 7 it can be another text.",
        examples=[_EXAMPLE_ID],
    )


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


class _OpenModel(BaseModel):
    """A model whose bodies may have further members."""

    model_config = ConfigDict(extra="allow")


_SMALL: Final = Annotated[int, Field(ge=0, le=2**31 - 1)]
_KINDS: Final[dict[Kind, Any]] = {
    "text": str,
    "time": Moment,
    "count": Annotated[int, Field(ge=0, le=MAX_COUNT)],
    "number": _SMALL,
    "amount": Annotated[float, Field(ge=0)],
    "flag": bool | _SMALL,
    "json": dict[str, Any],
    "uuid": Annotated[str, Field(json_schema_extra={"pattern": UUID_PATTERN})],
    "run_id": Annotated[str, Field(min_length=1, max_length=255, json_schema_extra={"pattern": RUN_ID_PATTERN})],
    "status": Literal[SPELLINGS],
    "commit_source": CommitSource,
}
"""What a column holds → the type of its values in a body."""


def _request_field(column: Column) -> Any:
    """Return the pydantic type and field of a column in a request body."""
    about = column.description + (" ISO 8601 with a zone." if column.kind == "time" else "")
    if column.required and column.name not in FALLBACKS:
        return (_request_type(column), Field(..., description=about))
    if column.name in MAY_MISFIT:
        kind = f"{column.kind}; a value that is none is kept in context_json. Null or empty when it is not known."
        return (Any, Field(None, description=f"{about} A {kind}"))
    return (
        _request_type(column) | Literal[""] | None,
        Field(None, description=about + " Null or empty when it is not known."),
    )


def _request_type(column: Column) -> Any:
    """Return the pydantic type of a column's values in a request body."""
    if column.kind == "hex":
        pattern = f"^[0-9a-fA-F]{{{column.max_length}}}$"
        return Annotated[str, Field(json_schema_extra={"pattern": pattern})]
    if column.kind == "text" and column.required:
        return Annotated[str, Field(min_length=1)]
    return _KINDS[column.kind]


def _response_field(column: Column) -> Any:
    """Return the pydantic type and field of a column in a response."""
    if column.kind in ("count", "number"):
        return (int, Field(description=column.description, ge=0))
    kinds: dict[Kind, Any] = {"flag": bool, "json": Any, "status": RunStatus, "amount": float | None}
    kind = kinds.get(column.kind, str if column.required else str | None)
    return (kind, Field(description=column.description))


RunBody: Final = create_model(
    "RunBody",
    __config__=ConfigDict(extra="allow", json_schema_extra={"examples": [_EXAMPLES]}),
    __doc__="One state of one run. Fields that are not listed are stored in context_json.",
    **{column.name: _request_field(column) for column in TABLE},
)
RunPatch: Final = create_model(
    "RunPatch",
    __config__=ConfigDict(
        extra="forbid",
        json_schema_extra={"minProperties": 1, "examples": [{"status": "cancelled", "end_time": _EXAMPLE_TIME}]},
    ),
    __doc__="The fields to set.",
    **{column.name: _request_field(column) for column in TABLE if column.patchable},
)


class Tree(BaseModel):
    """The totals of a run and the runs inside it."""

    runs: int
    model_calls: int
    tool_calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None = Field(description="Null where no cost is known.")
    unpriced_runs: int = Field(description="Runs that called a model and have no cost; the cost is of the others.")
    complete: bool = Field(description="False where the tree has more runs than are added.")


Run: Final = create_model(
    "Run",
    __config__=ConfigDict(extra="forbid"),
    __doc__="A stored run.",
    id=(int, Field(description="Its number in this database; other databases number their runs anew.")),
    **{column.name: _response_field(column) for column in TABLE},
    commit_url=(str | None, Field(description="The web page of its commit.")),
    repo_url=(str | None, Field(description="The web page of its repository.")),
    tree=(Tree, Field(default=None, description="With tree=true: its totals and those of the runs inside it.")),
)


_COMMIT_EXAMPLE: Final[dict[str, Any]] = {"commit_hash": "a1b2c3d4e5f6", "commit_source": "llm"}


class CommitBody(_OpenModel):
    """A commit that a run made."""

    model_config = ConfigDict(json_schema_extra={"examples": [_COMMIT_EXAMPLE]})

    commit_hash: str = Field(json_schema_extra={"pattern": "^[0-9a-fA-F]{7,40}$"}, examples=["a1b2c3d4e5f6"])
    commit_source: CommitSource
    commit_author: str | None = None
    commit_timestamp: Moment | Literal[""] | None = None


class CommitOfRun(CommitBody):
    """A commit, and the run by its run_id."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_COMMIT_EXAMPLE, "run_id": _EXAMPLES["run_id"]}]})

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

    A commit association counts as an event and as a commit. Of `torn` lines the whole records are stored.
    """

    lines: int
    runs: int
    events: int
    spans: int
    commits: int
    torn: int
    refused: list[LineRefused]


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


class Event(BaseModel):
    """An event of a run."""

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


COMPONENTS: Final[tuple[type[BaseModel], ...]] = (
    *(RunBody, RunPatch, CommitBody, CommitOfRun),
    *(Run, RunStored, BatchStored, RunDeleted, RunPatched, CommitAssociated, CommitsStored, CommitUrl, RepoUrl),
    *(Event, Step, RecordsStored, LineRefused, DayDigests, RunDigests, Deletions, Audit),
    *(Metadata, FieldValues, ServiceHealth, Version, Metrics, Problem),
)
"""The models that the operations refer to by name."""

LINK_HEADER: Final = {"Link": {"description": 'The next page, rel="next".', "schema": {"type": "string"}}}
LIST_HEADERS: Final = {
    **LINK_HEADER,
    PLUMBING_HEADER: {
        "description": "With plumbing=false, on the first page: the runs of plumbing that are left out.",
        "schema": {"type": "integer"},
    },
}
_RETRY_AFTER: Final = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
_ERRORS: Final = {
    400: "The request is malformed.",
    401: "The bearer token is missing or wrong.",
    404: "There is no such run.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The media type or encoding of the body is not supported.",
    422: "A value breaks a rule.",
    429: "Too many requests from this address.",
    503: "Runs cannot be stored or read now; retry later.",
}


def responses(
    model: type[BaseModel] | None,
    status: int,
    *errors: int,
    many: bool = False,
    headers: dict[str, Any] | None = None,
    content: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the OpenAPI responses of an operation: `status` with the model, each of `errors` with `Problem`.

    401 and 408 are added, since any request may get them. `many`: an array of the model.
    `content`: media types beside JSON.
    """
    success: dict[str, Any] = {"description": "Successful Response"}
    if headers:
        success["headers"] = headers
    success["content"] = {**(json_content(model, many=many) if model else {}), **(content or {})}
    described = {str(status): success}
    for error in (*errors, 401, 408):
        described[str(error)] = {"description": _ERRORS[error], "content": json_content(Problem)}
    for retryable in {"429", "503"} & described.keys():
        described[retryable]["headers"] = _RETRY_AFTER
    return described


def json_body(model: type[BaseModel], *, many: bool = False) -> dict[str, Any]:
    """Return the OpenAPI request body for a JSON object of this model, or an array of up to 10,000."""
    return {"required": True, "content": json_content(model, many=many, max_items=10_000)}


def json_content(model: type[BaseModel], *, many: bool = False, max_items: int | None = None) -> dict[str, Any]:
    """Return the OpenAPI content of a JSON body that holds the model, or an array of it."""
    schema: dict[str, Any] = {"$ref": REFERENCE.format(model=model.__name__)}
    if many:
        schema = {"type": "array", "items": schema, **({"maxItems": max_items} if max_items else {})}
    return {"application/json": {"schema": schema}}
