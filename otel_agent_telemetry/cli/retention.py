"""`agent-telemetry retention`.

Deletes what `operations.maintenance` finds to be old, or only counts it.
"""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.invocation import AsJson, invocation_of, note_missing_database, note_other_service, now_ns
from otel_agent_telemetry.cli.output import format_size, format_time, print_json, print_line, print_stderr, progress_bar

if TYPE_CHECKING:
    from otel_agent_telemetry.config import TelemetryConfig
    from otel_agent_telemetry.operations.maintenance import OldFiles
    from otel_agent_telemetry.storage.row_retention import OldRows


class _Deleted(NamedTuple):
    """What was deleted, or would be; None for a part that was not asked for or is not there."""

    rows: "OldRows | None"
    journal: "OldFiles | None"
    captures: "OldFiles | None"
    rejected: "OldFiles | None"
    sizes: tuple[int, int] | None
    """Bytes of the SQLite file before and after it was shrunk."""


def retention(
    context: typer.Context,
    days: Annotated[
        int | None,
        typer.Option(
            min=1, max=36_500, help="Age in days from which runs are deleted; default TELEMETRY_RETENTION_DAYS."
        ),
    ] = None,
    parts_days: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=36_500,
            help="Age in days from which events and steps are deleted; default TELEMETRY_RETENTION_PARTS_DAYS.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count what would be deleted, and change nothing.")
    ] = False,
    journal: Annotated[bool, typer.Option("--journal", help="Also delete old day files of the journal.")] = False,
    captures: Annotated[
        bool, typer.Option("--captures", help="Also delete old rotated files of captured entries.")
    ] = False,
    rejected: Annotated[bool, typer.Option("--rejected", help="Also delete old files of refused records.")] = False,
    vacuum: Annotated[
        bool, typer.Option("--vacuum", help="Shrink the SQLite file afterwards; refused while a service runs.")
    ] = False,
    as_json: AsJson = False,
) -> ExitCode:
    """Delete runs older than a number of days, with their events, steps and commits.

    Runs that are still `running` are kept, however old; `close-stale` closes them.
    """
    from otel_agent_telemetry.operations import maintenance

    invocation, now = invocation_of(context), now_ns()
    config, kept_days = invocation.config, days or invocation.config.retention_days
    cutoff = maintenance.cutoff_of(kept_days, now)
    kept_parts = parts_days or config.retention_parts_days
    parts_cutoff = None if kept_parts is None else maintenance.cutoff_of(kept_parts, now)
    note_other_service(invocation)
    rows, sizes = _old_rows(config, cutoff, parts_cutoff=parts_cutoff, dry_run=dry_run, vacuum=vacuum)
    # After the rows: when deleting them fails, the journal still has all of them.
    old_files = maintenance.old_day_files(config, cutoff, now_ns=now) if journal else None
    old_captures = maintenance.old_captures(config, cutoff) if captures else None
    old_rejected = maintenance.old_rejected(config, cutoff, now_ns=now) if rejected else None
    if not dry_run:
        maintenance.delete_files(old_files, old_captures, old_rejected)
    if rows is None:
        note_missing_database(invocation)
    deleted = _Deleted(rows, old_files, old_captures, old_rejected, sizes)
    if as_json:
        options = {"days": kept_days, "parts_days": kept_parts, "cutoff": cutoff, "dry_run": dry_run}
        print_json({**options, **_objects(deleted)})
    else:
        print_line(f"older than {kept_days} days: before {format_time(cutoff)} UTC")
        if parts_cutoff is not None:
            print_line(f"events and steps older than {kept_parts} days: before {format_time(parts_cutoff)} UTC")
        _print(deleted, dry_run=dry_run)
        _note_what_stays(config, rows, dry_run=dry_run, shrunk=vacuum)
    return ExitCode.OK


def _old_rows(
    config: "TelemetryConfig", cutoff: str, *, parts_cutoff: str | None, dry_run: bool, vacuum: bool
) -> "tuple[OldRows | None, tuple[int, int] | None]":
    """Delete or count the old rows; return them, and the bytes of the file before and after shrinking it."""
    from otel_agent_telemetry.operations import maintenance

    with ExitStack() as held:
        # Taken before anything is deleted, so that a running service refuses the whole call.
        file = held.enter_context(maintenance.ready_to_vacuum(config)) if vacuum and not dry_run else None
        work = maintenance.count_old_rows if dry_run else _deleted
        rows = work(config, cutoff, parts_cutoff=parts_cutoff)
        return rows, maintenance.shrink(config, file) if file is not None else None


def _deleted(config: "TelemetryConfig", cutoff: str, *, parts_cutoff: str | None) -> "OldRows | None":
    """Delete the old rows with a progress bar."""
    from otel_agent_telemetry.operations.maintenance import delete_old_rows

    with progress_bar("deleting", unit="rows") as on_progress:
        return delete_old_rows(config, cutoff, parts_cutoff=parts_cutoff, on_progress=on_progress)


def _objects(deleted: _Deleted) -> dict[str, Any]:
    """Return the parts for `--json`."""
    from dataclasses import asdict

    sizes = deleted.sizes
    return {
        "database": None if deleted.rows is None else asdict(deleted.rows),
        "journal": _files_object(deleted.journal),
        "captures": _files_object(deleted.captures),
        "rejected": _files_object(deleted.rejected),
        "vacuum": None if sizes is None else {"bytes_before": sizes[0], "bytes_after": sizes[1]},
    }


def _files_object(old: "OldFiles | None") -> dict[str, int] | None:
    """Return the numbers of files for `--json`."""
    return None if old is None else {"files": len(old.files), "bytes": old.bytes, "held_back": old.held_back}


def _print(found: _Deleted, *, dry_run: bool) -> None:
    """Print one line for each part that was asked for."""
    rows, old, captures, rejected, sizes = found
    deleted = "would be deleted" if dry_run else "deleted"
    if rows is not None:
        details = f"{rows.events} events, {rows.spans} steps, {rows.commits} commits"
        print_line(f"database  {rows.runs} runs {deleted}, with {details}")
    if old is not None:
        print_line(f"journal   {len(old.files)} day files {deleted}, {format_size(old.bytes)}")
    if captures is not None:
        print_line(f"captures  {len(captures.files)} rotated files {deleted}, {format_size(captures.bytes)}")
    if rejected is not None:
        print_line(f"rejected  {len(rejected.files)} files of refused records {deleted}, {format_size(rejected.bytes)}")
    if sizes is not None:
        print_line(f"file      {format_size(sizes[0])} before, {format_size(sizes[1])} now")


def _note_what_stays(config: "TelemetryConfig", rows: "OldRows | None", *, dry_run: bool, shrunk: bool) -> None:
    """Print notes on what was kept, and on the file that keeps its size."""
    if dry_run:
        print_stderr("Nothing was changed: --dry-run.")
    if rows is not None and rows.still_running:
        print_stderr(
            f"{rows.still_running} older runs are still running and kept; `agent-telemetry close-stale` closes them."
        )
    if rows is not None and rows.runs and not (dry_run or shrunk) and _is_file(config):
        print_stderr("The file keeps its size and new runs reuse the space; --vacuum shrinks it.")


def _is_file(config: "TelemetryConfig") -> bool:
    """Return whether the configured database is a SQLite file."""
    from otel_agent_telemetry.storage.engine import store_url

    return store_url(config).get_backend_name() == "sqlite"
