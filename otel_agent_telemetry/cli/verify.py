"""`agent-telemetry verify`."""

from typing import TYPE_CHECKING, Annotated

import typer

from otel_agent_telemetry.cli.exit_codes import ExitCode
from otel_agent_telemetry.cli.output import print_json, progress, remark, say
from otel_agent_telemetry.cli.runs import AsJson
from otel_agent_telemetry.cli.session import session_of
from otel_agent_telemetry.cli.terminal_text import printable

if TYPE_CHECKING:
    from otel_agent_telemetry.operations.verify import VerifyReport

_SAID = {
    "missing": "runs are in the journal, not in the database, not in the buffer (replay brings them back)",
    "refused": "runs were refused and lie in rejected/ (doctor says why)",
    "older": "runs have an older state in the database than in the journal (replay mends it)",
    "ahead": "runs have a later state in the database than in the journal; no problem if a service changed them",
    "unjournalled": "runs are in the database only; no problem if they came from elsewhere",
}


def verify(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=0, max=100_000, help="Name at most so many of each finding.")] = 20,
    as_json: AsJson = False,
) -> ExitCode:
    """Check that nothing is missing.

    Compares what was issued, journalled and stored; exit status 1 when something is missing.
    """
    from otel_agent_telemetry.operations import verify as verification

    config = session_of(context).config
    with progress("reading the journal") as on_progress:
        report = verification.verify(config, limit=limit, on_progress=on_progress)
    if as_json:
        print_json(verification.report_object(report))
    else:
        _print(report)
    if not report.compared_with:
        remark("Runs go to a service; the database was not compared.")
    return ExitCode.OK if report.ok else ExitCode.PROBLEM


def _print(report: "VerifyReport") -> None:
    from otel_agent_telemetry.operations.verify import NOTES

    say(f"lines in the journal  {report.lines}, of {report.writers} writers")
    say(f"runs in the journal   {report.journalled}")
    say(f"runs in the buffer    {report.waiting} waiting")
    if report.compared_with:
        say(f"runs in the database  {report.stored} ({printable(report.compared_with)})")
    if report.missing_lines:
        say(f"error  {report.missing_lines} lines are missing:", "red")
        for gap in report.gaps:
            say(
                f"         writer {printable(gap.writer)}: number {gap.first}"
                + (f" to {gap.last}" if gap.lines > 1 else "")
            )
    for day, number in report.torn.items():
        say(f"error  {printable(day)}: {number} torn lines", "red")
    for name, sentence in _SAID.items():
        if not report.counts[name]:
            continue
        is_note = name in NOTES
        say(f"{'note ' if is_note else 'error'}  {report.counts[name]} {sentence}", "" if is_note else "red")
        for run in [] if is_note else report.runs[name]:
            say(f"         {printable(run.run_id)}  {printable(run.event_id)}")
    if report.ok:
        say("Everything is accounted for.", "green")
