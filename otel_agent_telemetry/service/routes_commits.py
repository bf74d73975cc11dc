"""The endpoint that reads which commits belong to which runs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from otel_agent_telemetry.service import schemas
from otel_agent_telemetry.service.openapi import OperationGroup, responses
from otel_agent_telemetry.service.requests import backend_of, query_parameters
from otel_agent_telemetry.service.responses import json_response
from otel_agent_telemetry.storage.commit_rows import associations

MAX_COMMITS: Final = 200
"""Hashes in one request: some 8 KiB of the 16 KiB that the head of a request may have."""
COMMITS_PATTERN: Final = rf"^[0-9a-fA-F]{{4,64}}(,[0-9a-fA-F]{{4,64}}){{0,{MAX_COMMITS - 1}}}$"
_MOST: Final = 10_000

operations = OperationGroup("reading")


class CommitFilters(BaseModel):
    """The query string of `GET /api/v1/commits`."""

    model_config = ConfigDict(extra="forbid")

    commit: str | None = Field(
        None,
        description=f"Hashes of commits, or their beginnings of 4 digits or more, at most {MAX_COMMITS}, with commas.",
        pattern=COMMITS_PATTERN,
    )
    run_id: str | None = Field(None, description="The run whose commits are listed.", min_length=1, max_length=255)
    limit: int = Field(1000, ge=1, le=_MOST, description="The most associations to return.")


@operations.add(
    "GET",
    "/api/v1/commits",
    summary="The runs of commits, and the commits of runs",
    query=CommitFilters,
    responses=responses(schemas.CommitOfRun, 200, 422, 429, 503, many=True),
)
async def read_commits(request: Request) -> Response:
    """Return associations, the latest first. The run of one need not be stored yet."""
    filters = query_parameters(request, CommitFilters)
    # The pattern has looked at each part already.
    hashes = None if filters.commit is None else filters.commit.split(",")
    links = await backend_of(request).read(
        lambda connection: associations(connection, hashes=hashes, run_id=filters.run_id, limit=filters.limit)
    )
    return json_response([asdict(link) for link in links])
