"""`agent-telemetry copy-db`.

Reads the two arguments as databases and prints the report of `storage.copy_db`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.invocation import AsJson, invocation_of
from otel_agent_telemetry.cli.output import print_json, print_line, print_stderr, print_table, printable, progress_bar

if TYPE_CHECKING:
    from otel_agent_telemetry.config import TelemetryConfig
    from otel_agent_telemetry.storage.copy_db import CopyReport


def copy_db(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="FROM", help="Path of a SQLite file, or a database URL.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="Path of a SQLite file, or a database URL.")],
    as_json: AsJson = False,
) -> ExitCode:
    """Copy one database into another, and compare the two.

    A copy that was interrupted is continued by running the same command again.
    """
    from otel_agent_telemetry.storage.copy_db import copy_database

    config = invocation_of(context).config
    databases = _database_of(config, source, "FROM"), _database_of(config, target, "TO")
    with progress_bar("copying", unit="rows") as on_progress:
        report = copy_database(*databases, on_progress=on_progress)
    if as_json:
        print_json(_object(report))
    else:
        _print(report)
    for reason in report.reasons:
        print_stderr(f"agent-telemetry: refused: {reason}")
    return ExitCode.OK if report.verified else ExitCode.PROBLEM


def _database_of(config: "TelemetryConfig", word: str, name: str) -> "TelemetryConfig":
    """Return the configuration of the database that an argument names.

    Raises typer.BadParameter, which never repeats a URL: it can hold a password.
    """
    if "://" not in word:
        # Looks like a URL with a typing mistake, which must not become a file name.
        if ":/" in word or ("@" in word and ":" in word):
            raise typer.BadParameter(f"{name} is neither a path nor a database URL")
        return config.with_(db_path=Path(word).expanduser(), database_url=None)
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        backend = make_url(word).get_backend_name()
    except (ArgumentError, ValueError):
        raise typer.BadParameter(f"{name} is not a database URL") from None
    if backend not in ("sqlite", "postgresql"):
        raise typer.BadParameter(f"{name}: use sqlite:///… or postgresql+psycopg://…")
    return config.with_(database_url=word)


def _print(report: "CopyReport") -> None:
    """Print a row for each table, and whether the copy is complete."""
    rows = [
        (table.table, *map(str, (table.rows, table.written, table.refused, table.lacking))) for table in report.tables
    ]
    print_table(("TABLE", "ROWS", "WRITTEN", "REFUSED", "MISSING"), rows)
    print_line()
    if report.deleted:
        print_line(f"{report.deleted} runs of the target were deleted, as in the source.")
    where = f"of {printable(report.source)} is in {printable(report.target)}"
    if report.verified:
        print_line(f"Everything {where}.", "green")
    else:
        print_line(f"Not everything {where}: see REFUSED and MISSING.", "red")
    if report.counts_differ:
        print_line(
            f"{report.counts_differ} stored counts of the target differ; `agent-telemetry check-counts` shows them.",
            "red",
        )


def _object(report: "CopyReport") -> dict[str, Any]:
    """Return the report for `--json`; `lacking` are the rows that the text output calls missing."""
    names = ("rows", "written", "refused", "lacking")
    return {
        "source": report.source,
        "target": report.target,
        "verified": report.verified,
        "counts_differ": report.counts_differ,
        "deleted": report.deleted,
        "tables": {table.table: {name: getattr(table, name) for name in names} for table in report.tables},
        "reasons": report.reasons,
    }
