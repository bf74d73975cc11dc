"""`agent-telemetry replay`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otel_agent_telemetry.cli.exit_codes import ExitCode
from otel_agent_telemetry.cli.output import print_json, progress, remark, say
from otel_agent_telemetry.cli.runs import AsJson
from otel_agent_telemetry.cli.session import session_of
from otel_agent_telemetry.cli.terminal_text import printable
from otel_agent_telemetry.cli.time_options import day, size_text

if TYPE_CHECKING:
    from otel_agent_telemetry.operations.replay import ReplayReport


def replay(
    context: typer.Context,
    from_day: Annotated[str | None, typer.Option(help="First UTC day, YYYYMMDD or YYYY-MM-DD.")] = None,
    to_day: Annotated[str | None, typer.Option(help="Last UTC day.")] = None,
    into: Annotated[Path | None, typer.Option(help="SQLite file to write instead of the configured database.")] = None,
    as_json: AsJson = False,
) -> ExitCode:
    """Rebuild the database from the journal.

    Into the one in use it mends what is missing or behind; repeating it changes nothing.
    """
    from otel_agent_telemetry.operations import replay as replaying

    config = session_of(context).config
    if into is not None:
        config = config.with_(db_path=into.expanduser(), database_url=None)
    first, last = day(from_day) if from_day else "", day(to_day) if to_day else "99999999"
    if config.api_url:
        remark("Runs of this base directory go to a service; the journal is replayed into the local database.")
    with progress("replaying") as on_progress:
        report = replaying.replay(config, first_day=first, last_day=last, on_progress=on_progress)
    if as_json:
        print_json(_object(report))
    else:
        _print(report)
    for reason in report.reasons:
        remark(f"agent-telemetry: refused: {reason}")
    return ExitCode.PROBLEM if report.refused else ExitCode.OK


def _print(report: "ReplayReport") -> None:
    read = [f"{report.files} files", size_text(report.bytes), f"{report.states} run states"]
    read += [f"{report.commits} commits"] + ([f"{report.torn} torn lines"] if report.torn else [])
    say(f"read     {', '.join(read)}")
    say(f"runs     {report.inserted} new, {report.updated} mended, {report.unchanged} as they were")
    if report.unlinked:
        say(f"commits  {report.unlinked} whose run is not there yet")
    if report.refused:
        say(f"refused  {report.refused}", "red")
    if report.schema is not None and report.schema.backup is not None:
        say(f"backup   {printable(report.schema.backup)}")


def _object(report: "ReplayReport") -> dict[str, object]:
    names = (
        "files",
        "bytes",
        "states",
        "commits",
        "inserted",
        "updated",
        "unchanged",
        "unlinked",
        "refused",
        "torn",
    )
    return {**{name: getattr(report, name) for name in names}, "reasons": report.reasons}
