"""`agent-telemetry retention`."""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from otel_agent_telemetry.cli.exit_codes import ExitCode
from otel_agent_telemetry.cli.output import print_json, remark, rows_progress, say
from otel_agent_telemetry.cli.runs import AsJson
from otel_agent_telemetry.cli.session import database_missing, now_ns, say_where_runs_go, session_of
from otel_agent_telemetry.cli.time_options import clock_text, size_text

if TYPE_CHECKING:
    from otel_agent_telemetry.config import TelemetryConfig
    from otel_agent_telemetry.operations.retention_job import OldFiles
    from otel_agent_telemetry.storage.row_retention import OldRows


def retention(
    context: typer.Context,
    days: Annotated[int | None, typer.Option(min=1, max=36_500, help="Keep so many days; else the setting.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what is old, and change nothing.")] = False,
    journal: Annotated[bool, typer.Option("--journal", help="Delete old day files of the journal as well.")] = False,
    captures: Annotated[bool, typer.Option("--captures", help="Delete old rotated files of entries too.")] = False,
    vacuum: Annotated[bool, typer.Option("--vacuum", help="Shrink the SQLite file; no service may run.")] = False,
    as_json: AsJson = False,
) -> ExitCode:
    """Delete runs that are older than some days, with all that belongs to them.

    A run that is still running stays, however old; `close-stale` ends it.
    """
    from otel_agent_telemetry.operations import retention_job as retaining

    session, now = session_of(context), now_ns()
    config, kept_days = session.config, days or session.config.retention_days
    cutoff = retaining.cutoff_of(kept_days, now)
    say_where_runs_go(session)
    with ExitStack() as held:
        file = held.enter_context(retaining.ready_to_vacuum(config)) if vacuum and not dry_run else None
        rows = retaining.count_old_rows(config, cutoff) if dry_run else _deleted(config, cutoff)
        sizes = retaining.shrink(config, file) if file is not None else None
    old_files = retaining.old_journal(config, cutoff, now_ns=now) if journal else None
    old_captures = retaining.old_captures(config, cutoff) if captures else None
    if not dry_run:
        retaining.delete_files(old_files, old_captures)
    if rows is None:
        database_missing(session)
    if as_json:
        told = {"days": kept_days, "cutoff": cutoff, "dry_run": dry_run}
        shrunk = None if sizes is None else {"bytes_before": sizes[0], "bytes_after": sizes[1]}
        files = {"journal": _files_object(old_files), "captures": _files_object(old_captures)}
        print_json({**told, "database": _rows_object(rows), **files, "vacuum": shrunk})
    else:
        say(f"older than {kept_days} days: before {clock_text(cutoff)} UTC")
        _print(rows, old_files, old_captures, sizes, dry_run=dry_run)
        _remark_what_stays(config, rows, dry_run=dry_run, shrunk=vacuum)
    return ExitCode.OK


def _deleted(config: "TelemetryConfig", cutoff: str) -> "OldRows | None":
    from otel_agent_telemetry.operations.retention_job import delete_old_rows

    with rows_progress("deleting") as on_progress:
        return delete_old_rows(config, cutoff, on_progress=on_progress)


def _rows_object(rows: "OldRows | None") -> dict[str, int] | None:
    from dataclasses import asdict

    return None if rows is None else asdict(rows)


def _files_object(old: "OldFiles | None") -> dict[str, int] | None:
    return None if old is None else {"files": len(old.files), "bytes": old.bytes, "held_back": old.held_back}


def _print(
    rows: "OldRows | None",
    old: "OldFiles | None",
    captures: "OldFiles | None",
    sizes: tuple[int, int] | None,
    *,
    dry_run: bool,
) -> None:
    done = "would be deleted" if dry_run else "deleted"
    if rows is not None:
        belongings = f"{rows.events} events, {rows.spans} steps, {rows.commits} commits"
        say(f"database  {rows.runs} runs {done}, with {belongings}")
    if old is not None:
        say(f"journal   {len(old.files)} day files {done}, {size_text(old.bytes)}")
    if captures is not None:
        say(f"captures  {len(captures.files)} rotated files {done}, {size_text(captures.bytes)}")
    if sizes is not None:
        say(f"file      {size_text(sizes[0])} before, {size_text(sizes[1])} now")


def _remark_what_stays(config: "TelemetryConfig", rows: "OldRows | None", *, dry_run: bool, shrunk: bool) -> None:
    if dry_run:
        remark("Nothing was changed: --dry-run.")
    if rows is not None and rows.still_running:
        remark(f"{rows.still_running} runs as old are still running and stay: `agent-telemetry close-stale` ends them.")
    if rows is not None and rows.runs and not (dry_run or shrunk) and _is_file(config):
        remark("The file keeps its size, and new runs fill the room; --vacuum gives it back to the disk.")


def _is_file(config: "TelemetryConfig") -> bool:
    from otel_agent_telemetry.storage.engine import store_url

    return store_url(config).get_backend_name() == "sqlite"
