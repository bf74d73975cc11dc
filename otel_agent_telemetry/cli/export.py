"""`agent-telemetry export`."""

import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from otel_agent_telemetry.cli.exit_codes import ExitCode
from otel_agent_telemetry.cli.output import remark, rows_progress
from otel_agent_telemetry.cli.run_filters import Agent, JobType, Parent, RunId, Since, Status, Until, run_query
from otel_agent_telemetry.cli.runs import NoSync
from otel_agent_telemetry.cli.session import Session, database_missing, freshen, say_where_runs_go, session_of
from otel_agent_telemetry.cli.terminal_text import printable

if TYPE_CHECKING:
    from otel_agent_telemetry.operations.export import RunSink
    from otel_agent_telemetry.storage.queries import RunQuery


class Format(StrEnum):
    """What an export may be."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


def export(
    context: typer.Context,
    form: Annotated[Format, typer.Option("--format", "-f", help="csv, jsonl or parquet.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A new file, instead of stdout.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file when it is there.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="CSV: leave texts that a spreadsheet takes for formulas.")] = False,
    agent: Agent = None,
    status: Status = None,
    job_type: JobType = None,
    run_id: RunId = None,
    parent: Parent = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="At most so many, the newest.")] = None,
    no_sync: NoSync = False,
) -> ExitCode:
    """Write runs out for other programs, newest first."""
    query = run_query(
        agent=agent, status=status, job_type=job_type, run_id=run_id, parent=parent, since=since, until=until
    )
    session = session_of(context)
    if output is None and form is Format.PARQUET:
        raise typer.BadParameter("Parquet is no text: name a file", param_hint="--output")
    say_where_runs_go(session)
    if not no_sync:
        freshen(session)
    if output is None:
        _to_stdout(session, query, form, raw=raw, limit=limit)
        return ExitCode.OK
    from otel_agent_telemetry.operations.export import new_file

    with new_file(output.expanduser().absolute(), overwrite=overwrite) as file:
        number = _written(session, query, _sink(session, form, file, raw=raw), limit)
    remark(f"{number} runs exported to {output}.")
    return ExitCode.OK


def _to_stdout(session: Session, query: "RunQuery", form: Format, *, raw: bool, limit: int | None) -> None:
    """Only a whole export is printed, and no reader holds the database up."""
    from otel_agent_telemetry.operations.export import spool

    with spool() as file:
        _written(session, query, _sink(session, form, file, raw=raw), limit)
        file.seek(0)
        if sys.stdout.isatty():
            for line in file:
                print(printable(line.decode().rstrip("\r\n")))
        else:
            sys.stdout.flush()
            shutil.copyfileobj(file, sys.stdout.buffer)


def _sink(session: Session, form: Format, file: BinaryIO, *, raw: bool) -> "RunSink":
    if form is Format.PARQUET:
        from otel_agent_telemetry.operations.export import ParquetSink

        return ParquetSink(file)
    from otel_agent_telemetry.operations.export import CsvSink, JsonLinesSink

    if form is Format.CSV:
        return CsvSink(file, raw=raw)
    return JsonLinesSink(file, git_hosts=dict(session.config.git_hosts))


def _written(session: Session, query: "RunQuery", sink: "RunSink", limit: int | None) -> int:
    from otel_agent_telemetry.operations.export import export_runs

    with rows_progress("exporting") as on_progress:
        number = export_runs(session.config, query, sink, limit=limit, on_progress=lambda done: on_progress(done, None))
    if number is None:
        database_missing(session)
    return number or 0
