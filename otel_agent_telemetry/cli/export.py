"""`agent-telemetry export`.

Chooses format and destination; `operations.export` reads and writes.
"""

import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.invocation import (
    Agent,
    Change,
    Environment,
    Host,
    Invocation,
    JobType,
    Label,
    Model,
    NoSync,
    Parent,
    RunId,
    Session,
    Since,
    Status,
    Until,
    User,
    invocation_of,
    note_missing_database,
    run_query,
    sync_before_read,
)
from otel_agent_telemetry.cli.output import print_stderr, printable, progress_bar

if TYPE_CHECKING:
    from otel_agent_telemetry.operations.export_formats import ExportFormat
    from otel_agent_telemetry.storage.run_filters import RunQuery


class Format(StrEnum):
    """File formats of an export."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


def export(
    context: typer.Context,
    form: Annotated[Format, typer.Option("--format", "-f", help="csv, jsonl or parquet. Required.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Path of a new file; default stdout.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="CSV: do not escape texts that a spreadsheet would run as formulas.")
    ] = False,
    agent: Agent = None,
    status: Status = None,
    job_type: JobType = None,
    run_id: RunId = None,
    parent: Parent = None,
    since: Since = None,
    until: Until = None,
    host: Host = None,
    environment: Environment = None,
    session: Session = None,
    user: User = None,
    change: Change = None,
    model: Model = None,
    label: Label = None,
    plumbing: Annotated[
        bool | None, typer.Option("--plumbing/--no-plumbing", help="Only plumbing, or none of it; default all runs.")
    ] = None,
    tree: Annotated[
        bool, typer.Option("--tree", help="Add what each run and the runs inside it used together.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="Number of runs at most, the newest first; default all.")
    ] = None,
    no_sync: NoSync = False,
) -> ExitCode:
    """Export runs for other programs, newest first."""
    from dataclasses import replace

    query = run_query(
        agent=agent,
        status=status,
        job_type=job_type,
        run_id=run_id,
        parent=parent,
        since=since,
        until=until,
        host=host,
        environment=environment,
        session=session,
        user=user,
        change=change,
        model=model,
        label=label,
    )
    query = replace(query, plumbing=plumbing)
    invocation = invocation_of(context)
    # A terminal or a text pipe cannot take binary data.
    if output is None and form is Format.PARQUET:
        raise typer.BadParameter("Parquet needs a file", param_hint="--output")
    if not no_sync:
        sync_before_read(invocation)
    if output is None:
        _to_stdout(invocation, query, form, raw=raw, trees=tree, limit=limit)
        return ExitCode.OK
    from otel_agent_telemetry.operations.export import new_file

    with new_file(output.expanduser().absolute(), overwrite=overwrite) as file:
        sink = _sink(invocation, form, file, raw=raw, trees=tree)
        number = _export(invocation, query, sink, trees=tree, limit=limit)
    print_stderr(f"{number} runs exported to {output}.")
    return ExitCode.OK


def _to_stdout(
    invocation: Invocation, query: "RunQuery", form: Format, *, raw: bool, trees: bool, limit: int | None
) -> None:
    """Print the export once it is complete: a slow reader of the pipe must not keep the database locked."""
    from otel_agent_telemetry.operations.export import spool

    with spool() as file:
        _export(invocation, query, _sink(invocation, form, file, raw=raw, trees=trees), trees=trees, limit=limit)
        file.seek(0)
        # Only a terminal needs escaping; a program gets the bytes of the format.
        if sys.stdout.isatty():
            for line in file:
                print(printable(line.decode().rstrip("\r\n")))
        else:
            # `buffer` bypasses the text layer, which can still hold output.
            sys.stdout.flush()
            shutil.copyfileobj(file, sys.stdout.buffer)


def _sink(invocation: Invocation, form: Format, file: BinaryIO, *, raw: bool, trees: bool) -> "ExportFormat":
    """Return the writer of a format. Raises ConfigurationError when Parquet is not installed."""
    if form is Format.PARQUET:
        from otel_agent_telemetry.operations.export_formats import ParquetFormat

        return ParquetFormat(file, trees=trees)
    from otel_agent_telemetry.operations.export_formats import CsvFormat, JsonLinesFormat

    if form is Format.CSV:
        return CsvFormat(file, raw=raw, trees=trees)
    return JsonLinesFormat(file, git_hosts=dict(invocation.config.git_hosts))


def _export(invocation: Invocation, query: "RunQuery", sink: "ExportFormat", *, trees: bool, limit: int | None) -> int:
    """Write the runs with a progress bar and return their number.

    Without a database it prints a note and returns 0: the export is a heading or an empty file.
    """
    from otel_agent_telemetry.operations.export import export_runs

    with progress_bar("exporting", unit="rows") as on_progress:
        number = export_runs(invocation.config, query, sink, limit=limit, trees=trees, on_progress=on_progress)
    if number is None:
        note_missing_database(invocation)
    return number or 0
