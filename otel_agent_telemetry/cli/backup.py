"""`agent-telemetry backup`.

The backup is made and verified by `operations.maintenance`; `restore` prints its summary with the
functions here.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.invocation import AsJson, invocation_of
from otel_agent_telemetry.cli.output import format_size, format_time, print_json, print_line, print_stderr, printable

if TYPE_CHECKING:
    from otel_agent_telemetry.storage.restore import DatabaseContents


def backup(
    context: typer.Context,
    to: Annotated[
        Path | None, typer.Option(help="Folder, or path of a new .sqlite file; default {base}/backups.")
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option(min=1, help="Number of backups to keep in that folder, this one included; default all."),
    ] = None,
    as_json: AsJson = False,
) -> ExitCode:
    """Copy the SQLite database while it is in use, and verify the copy."""
    from otel_agent_telemetry.operations.maintenance import take_backup

    config = invocation_of(context).config
    # Absolute, because the message shows the path.
    taken = take_backup(config, to=None if to is None else to.expanduser().absolute(), keep=keep)
    if as_json:
        print_json({**contents_object(taken.contents), "pruned": [str(path) for path in taken.pruned]})
    else:
        print_contents("backup", taken.contents)
        for path in taken.pruned:
            print_line(f"removed  {printable(path)}")
    return report_counts(taken.contents)


def contents_object(contents: "DatabaseContents") -> dict[str, object]:
    """Return the summary of a database file for `--json`."""
    from dataclasses import asdict

    return {**asdict(contents), "path": str(contents.path)}


def print_contents(heading: str, contents: "DatabaseContents") -> None:
    """Print the summary of a database file under a heading."""
    print_line(f"{heading:<8} {printable(contents.path)}")
    print_line(f"size     {format_size(contents.bytes)}, schema revision {contents.revision}")
    other_rows = ", ".join(f"{number} {name}" for name, number in contents.tables.items() if name in _SHOWN)
    print_line(f"rows     {contents.runs} runs" + (f", {other_rows}" if other_rows else ""))
    if contents.runs:
        newest = f"{format_time(contents.newest)} ({printable(contents.newest_run_id)})"
        print_line(f"runs     from {format_time(contents.oldest)} to {newest} UTC")


_SHOWN = ("commits", "run_events", "run_spans")


def report_counts(contents: "DatabaseContents") -> ExitCode:
    """Return OK; or print a note and return PROBLEM when the stored counts differ from the runs."""
    if contents.counts_agree:
        return ExitCode.OK
    print_stderr("Its stored counts differ from its runs: repair them with `agent-telemetry check-counts --repair`.")
    return ExitCode.PROBLEM
