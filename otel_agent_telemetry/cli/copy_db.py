"""`agent-telemetry copy-db`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_agent_telemetry.cli.exit_codes import ExitCode
from otel_agent_telemetry.cli.output import print_json, print_table, remark, rows_progress, say
from otel_agent_telemetry.cli.runs import AsJson
from otel_agent_telemetry.cli.session import session_of
from otel_agent_telemetry.cli.terminal_text import printable

if TYPE_CHECKING:
    from otel_agent_telemetry.config import TelemetryConfig
    from otel_agent_telemetry.storage.copy_db import CopyReport


def copy_db(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="FROM", help="SQLite file, or a database URL.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="SQLite file, or a database URL.")],
    as_json: AsJson = False,
) -> ExitCode:
    """Copy one database into another, and compare the two.

    Killed or stopped in the middle, it is simply begun again.
    """
    from otel_agent_telemetry.storage.copy_db import copy_database

    config = session_of(context).config
    ends = _place(config, source, "FROM"), _place(config, target, "TO")
    with rows_progress("copying") as on_progress:
        report = copy_database(*ends, on_progress=on_progress)
    if as_json:
        print_json(_object(report))
    else:
        _print(report)
    for reason in report.reasons:
        remark(f"agent-telemetry: refused: {reason}")
    return ExitCode.OK if report.verified else ExitCode.PROBLEM


def _place(config: "TelemetryConfig", word: str, name: str) -> "TelemetryConfig":
    """The configuration of the database that an argument names. Never repeats a URL: it may hold a password."""
    if "://" not in word:
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
    rows = [
        (table.table, *map(str, (table.rows, table.written, table.refused, table.lacking))) for table in report.tables
    ]
    print_table(("TABLE", "ROWS", "WRITTEN", "REFUSED", "LACKING"), rows)
    say()
    where = f"{printable(report.source)} in {printable(report.target)}"
    if report.verified:
        say(f"All of {where}.", "green")
    else:
        say(f"Not all of {where}: see REFUSED and LACKING.", "red")
    if report.counts_differ:
        say(
            f"{report.counts_differ} kept counts of the target differ; `agent-telemetry check-counts` shows them.",
            "red",
        )


def _object(report: "CopyReport") -> dict[str, Any]:
    names = ("rows", "written", "refused", "lacking")
    return {
        "source": report.source,
        "target": report.target,
        "verified": report.verified,
        "counts_differ": report.counts_differ,
        "tables": {table.table: {name: getattr(table, name) for name in names} for table in report.tables},
        "reasons": report.reasons,
    }
