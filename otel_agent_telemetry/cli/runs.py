"""`agent-telemetry runs`."""

from typing import TYPE_CHECKING, Annotated

import typer

from otel_agent_telemetry.cli.exit_codes import ExitCode
from otel_agent_telemetry.cli.moments import clock_text, duration_text, moment
from otel_agent_telemetry.cli.output import print_json, print_table, say
from otel_agent_telemetry.cli.session import database_missing, freshen, now_ns, say_where_runs_go, session_of
from otel_agent_telemetry.cli.terminal_text import printable

if TYPE_CHECKING:
    from otel_agent_telemetry.model import RunRecord

_HEADINGS = ("STARTED (UTC)", "STATUS", "DURATION", "AGENT", "JOB", "ITEMS", "RUN ID")
_MOST = 100_000

NoSync = Annotated[bool, typer.Option("--no-sync", help="Do not deliver first what waits in the buffer.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def runs(
    context: typer.Context,
    agent: Annotated[str | None, typer.Option(help="Only runs of this agent.")] = None,
    status: Annotated[str | None, typer.Option(help="Only runs in this status, in any accepted spelling.")] = None,
    job_type: Annotated[str | None, typer.Option(help="Only runs of this job type.")] = None,
    run_id: Annotated[str | None, typer.Option(help="Only runs with this run id.")] = None,
    parent: Annotated[str | None, typer.Option(help="Only runs inside the run with this run id.")] = None,
    since: Annotated[str | None, typer.Option(help="Started at or after: ISO 8601, or so long ago (2h, 3d).")] = None,
    until: Annotated[str | None, typer.Option(help="Started at or before, likewise.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=_MOST, help="At most so many.")] = 50,
    as_json: AsJson = False,
    no_sync: NoSync = False,
) -> ExitCode:
    """List runs, newest first."""
    from otel_agent_telemetry.inspection.database import reading_database
    from otel_agent_telemetry.storage.queries import RunQuery, list_runs

    query = RunQuery(
        agent_name=agent,
        status=_status(status),
        job_type=job_type,
        run_id=run_id,
        parent_run_id=parent,
        start_time_from=moment(since, now_ns()) if since else None,
        start_time_to=moment(until, now_ns()) if until else None,
        limit=limit,
    )
    session = session_of(context)
    say_where_runs_go(session)
    if not no_sync:
        freshen(session)
    with reading_database(session.config) as connection:
        found = None if connection is None else list_runs(connection, query)
    if found is None:
        database_missing(session)
    if as_json:
        from otel_agent_telemetry.inspection.run_object import run_object

        hosts = dict(session.config.git_hosts)
        print_json([run_object(record, git_hosts=hosts) for record in found or ()])
    elif found:
        print_table(_HEADINGS, map(_row, found), status_column=1)
    elif found is not None:
        say("No runs match.")
    return ExitCode.OK


def _status(word: str | None) -> str | None:
    from otel_agent_telemetry.status import STATUSES, canonical_status

    if word is None:
        return None
    known = canonical_status(word)
    if known is None:
        raise typer.BadParameter(f"{word!r} is no status: {', '.join(STATUSES)}", param_hint="--status")
    return known


def _row(run: "RunRecord") -> tuple[str, ...]:
    items = f"{run.items_succeeded}/{run.items_discovered}" if run.items_discovered else "-"
    duration = duration_text(run.duration_ms) if run.ended else "-"
    texts = (
        clock_text(run.start_time),
        run.status,
        duration,
        run.agent_name,
        run.job_type,
        items,
        run.run_id,
    )
    return tuple(map(printable, texts))
