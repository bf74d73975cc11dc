"""The models of a run in request and response bodies, for the OpenAPI document; they follow from `columns.TABLE`.

Request bodies are validated by `run_bodies`, not by these models (see `openapi`). The models of what is not a run are
in `schemas` and `audit_schemas`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from otel_agent_telemetry.argument_types import CommitSource, RunStatus
from otel_agent_telemetry.columns import FALLBACKS, MAX_COUNT, MAY_MISFIT, TABLE, Column, Kind
from otel_agent_telemetry.status import SPELLINGS

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
EXAMPLE_RUN: Final[dict[str, Any]] = {
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


class EventIdPath(BaseModel):
    """The path parameter of every operation on one run."""

    event_id: str = Field(
        description="The run's idempotency key, a UUID; in databases of version 7 it can be another text.",
        examples=[_EXAMPLE_ID],
    )


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
        # A client of an earlier version may have a field of its own under this name: any value is taken.
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
    __config__=ConfigDict(extra="allow", json_schema_extra={"examples": [EXAMPLE_RUN]}),
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
