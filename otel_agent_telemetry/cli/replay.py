"""`agent-telemetry replay`.

Prints the report of `operations.replay`, which writes the journal into a database.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.invocation import AsJson, invocation_of, parse_day
from otel_agent_telemetry.cli.output import format_size, print_json, print_line, print_stderr, printable, progress_bar

if TYPE_CHECKING:
    from otel_agent_telemetry.operations.replay import ReplayReport


def replay(
    context: typer.Context,
    from_day: Annotated[
        str | None, typer.Option(help="First UTC day, YYYYMMDD or YYYY-MM-DD; default the oldest.")
    ] = None,
    to_day: Annotated[
        str | None, typer.Option(help="Last UTC day, YYYYMMDD or YYYY-MM-DD; default the newest.")
    ] = None,
    into: Annotated[
        Path | None, typer.Option(help="Path of a SQLite file to write; default the configured database.")
    ] = None,
    as_json: AsJson = False,
) -> ExitCode:
    """Rebuild the database from the journal.

    Replayed into the database in use, it adds missing runs and updates outdated ones;
    repeating it changes nothing.
    """
    from otel_agent_telemetry.operations import replay as replaying

    config = invocation_of(context).config
    if into is not None:
        # `--into` names a file, so a configured server is left out.
        config = config.with_(db_path=into.expanduser(), database_url=None)
    first, last = parse_day(from_day) if from_day else "", parse_day(to_day) if to_day else "99999999"
    if config.api_url:
        print_stderr("Runs of this base directory go to a service; the journal is replayed into the local database.")
    with progress_bar("replaying") as on_progress:
        report = replaying.replay(config, first_day=first, last_day=last, on_progress=on_progress)
    if as_json:
        print_json(_object(report))
    else:
        _print(report)
    for reason in report.reasons:
        print_stderr(f"agent-telemetry: refused: {reason}")
    return ExitCode.PROBLEM if report.refused else ExitCode.OK


def _print(report: "ReplayReport") -> None:
    """Print what was read and what became of it."""
    read = [f"{report.files} files", format_size(report.bytes), f"{report.states} run states"]
    read += [f"{report.commits} commits"] + ([f"{report.torn} torn lines"] if report.torn else [])
    print_line(f"read     {', '.join(read)}")
    print_line(f"runs     {report.inserted} inserted, {report.updated} updated, {report.unchanged} unchanged")
    if report.deleted:
        print_line(f"deleted  {report.deleted} runs of the journal, which stay deleted")
    if report.unlinked:
        print_line(f"commits  {report.unlinked} whose run is not stored yet")
    if report.refused:
        print_line(f"refused  {report.refused}", "red")
    if report.schema is not None and report.schema.backup is not None:
        print_line(f"backup   {printable(report.schema.backup)}")


def _object(report: "ReplayReport") -> dict[str, object]:
    """Return the report for `--json`, without the schema, which the text output shows."""
    names = (
        "files",
        "bytes",
        "states",
        "commits",
        "inserted",
        "updated",
        "unchanged",
        "unlinked",
        "deleted",
        "refused",
        "torn",
    )
    return {**{name: getattr(report, name) for name in names}, "reasons": report.reasons}
