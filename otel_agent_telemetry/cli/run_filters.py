"""The options that choose runs, and the query that they make."""

from typing import TYPE_CHECKING, Annotated

import typer

from otel_agent_telemetry.cli.session import now_ns
from otel_agent_telemetry.cli.time_options import moment

if TYPE_CHECKING:
    from otel_agent_telemetry.storage.queries import RunQuery

Agent = Annotated[str | None, typer.Option(help="Only runs of this agent.")]
Status = Annotated[str | None, typer.Option(help="Only runs in this status, in any accepted spelling.")]
JobType = Annotated[str | None, typer.Option(help="Only runs of this job type.")]
RunId = Annotated[str | None, typer.Option(help="Only runs with this run id.")]
Parent = Annotated[str | None, typer.Option(help="Only runs inside the run with this run id.")]
Since = Annotated[str | None, typer.Option(help="Started at or after: ISO 8601, or so long ago (2h, 3d).")]
Until = Annotated[str | None, typer.Option(help="Started at or before, likewise.")]


def run_query(
    *,
    agent: str | None,
    status: str | None,
    job_type: str | None,
    run_id: str | None,
    parent: str | None,
    since: str | None,
    until: str | None,
) -> "RunQuery":
    """The query of these options. Raises typer.BadParameter."""
    from otel_agent_telemetry.storage.queries import RunQuery

    return RunQuery(
        agent_name=agent,
        status=_canonical(status),
        job_type=job_type,
        run_id=run_id,
        parent_run_id=parent,
        start_time_from=moment(since, now_ns()) if since else None,
        start_time_to=moment(until, now_ns()) if until else None,
    )


def _canonical(word: str | None) -> str | None:
    from otel_agent_telemetry.status import STATUSES, canonical_status

    known = None if word is None else canonical_status(word)
    if word is not None and known is None:
        raise typer.BadParameter(f"{word!r} is no status: {', '.join(STATUSES)}", param_hint="--status")
    return known
