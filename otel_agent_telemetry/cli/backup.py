"""`agent-telemetry backup`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otel_agent_telemetry.cli.exit_codes import ExitCode
from otel_agent_telemetry.cli.output import print_json, remark, say
from otel_agent_telemetry.cli.runs import AsJson
from otel_agent_telemetry.cli.session import session_of
from otel_agent_telemetry.cli.terminal_text import printable
from otel_agent_telemetry.cli.time_options import clock_text, size_text

if TYPE_CHECKING:
    from otel_agent_telemetry.storage.file_summary import DatabaseContents


def backup(
    context: typer.Context,
    to: Annotated[Path | None, typer.Option(help="Folder, or name of a new .sqlite file; else {base}/backups.")] = None,
    keep: Annotated[int | None, typer.Option(min=1, help="Keep only so many backups in that folder.")] = None,
    as_json: AsJson = False,
) -> ExitCode:
    """Copy the SQLite database while it is in use, and verify the copy."""
    from otel_agent_telemetry.operations.backup_job import take_backup

    config = session_of(context).config
    taken = take_backup(config, to=None if to is None else to.expanduser().absolute(), keep=keep)
    if as_json:
        print_json({**contents_object(taken.contents), "pruned": [str(path) for path in taken.pruned]})
    else:
        print_contents("backup", taken.contents)
        for path in taken.pruned:
            say(f"removed  {printable(path)}")
    return say_whether_counts_agree(taken.contents)


def contents_object(contents: "DatabaseContents") -> dict[str, object]:
    """What a file holds, for `--json`."""
    from dataclasses import asdict

    return {**asdict(contents), "path": str(contents.path)}


def print_contents(heading: str, contents: "DatabaseContents") -> None:
    """What a file holds, for people."""
    say(f"{heading:<8} {printable(contents.path)}")
    say(f"size     {size_text(contents.bytes)}, schema revision {contents.revision}")
    others = ", ".join(f"{number} {name}" for name, number in contents.tables.items() if name in _SHOWN)
    say(f"rows     {contents.runs} runs" + (f", {others}" if others else ""))
    if contents.runs:
        newest = f"{clock_text(contents.newest)} ({printable(contents.newest_run_id)})"
        say(f"runs     from {clock_text(contents.oldest)} to {newest} UTC")


_SHOWN = ("commits", "run_events", "run_spans")


def say_whether_counts_agree(contents: "DatabaseContents") -> ExitCode:
    """OK, or a remark and PROBLEM: the runs are whole, the counts kept beside them are not theirs."""
    if contents.counts_agree:
        return ExitCode.OK
    remark("Its kept counts are not those of its runs: `agent-telemetry check-counts --repair` on the database.")
    return ExitCode.PROBLEM
