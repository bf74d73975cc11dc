"""`agent-telemetry verify`.

Prints the report of `operations.verify`, which compares journal, buffer and database.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.invocation import AsJson, invocation_of
from otel_agent_telemetry.cli.output import print_json, print_line, printable, progress_bar

if TYPE_CHECKING:
    from otel_agent_telemetry.operations.verify_report import VerifyReport

_EXPLANATIONS = {
    "missing": "runs are in the journal, but neither in {place} nor in the buffer{added}",
    "refused": "runs were refused and are in rejected/ (doctor shows the reasons)",
    "older": "runs have an older state in {place} than in the journal{added}",
    "altered": "runs have other content in {place} than in the journal",
    "twice": "runs share their event_id with another run, of which one is lost",
    "undeleted": "runs are in {place} although they were deleted{deleted}",
    "ahead": "runs have a later state in {place} than in the journal; expected if a service changed them",
    "unjournalled": "runs are in {place} only; expected if another host sent them",
}
_OF_LINES = {
    "missing": "events and steps are in the journal, but not in the service that confirmed them "
    "(remove the cursor, buffer/journal-*.cursor, to deliver the journal again)",
    "altered": "events and steps have other content in the service than in the journal",
    "refused": "events and steps were refused and are in rejected/ (doctor shows the reasons)",
}
_OF_DATABASE = {
    "place": "the database",
    "added": " (replay adds or updates them)",
    "deleted": " (replay deletes them)",
}
_OF_SERVICE = {
    "place": "the service",
    "added": " (POST /api/v1/records with the journal's lines adds or updates them)",
    "deleted": "",
}


def verify(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=0, max=100_000, help="Number of runs to list for each finding.")] = 20,
    as_json: AsJson = False,
) -> ExitCode:
    """Check that nothing is missing.

    Compares issued line numbers, the journal, the buffer, and the database or the service that
    runs go to. Exit status 1 when something is wrong, 6 when that could not be read.
    """
    from otel_agent_telemetry.operations import verify as verification
    from otel_agent_telemetry.operations.verify_report import report_object

    config = invocation_of(context).config
    with progress_bar("reading the journal") as on_progress:
        report = verification.verify(config, limit=limit, on_progress=on_progress)
    if as_json:
        print_json(report_object(report))
    else:
        _print(report)
    if not report.ok:
        return ExitCode.PROBLEM
    return ExitCode.NOT_COMPARED if report.not_compared else ExitCode.OK


def _print(report: "VerifyReport") -> None:
    """Print the numbers that were compared, then each finding with its runs."""
    print_line(f"lines in the journal  {report.lines}, of {report.writers} writers")
    print_line(f"runs in the journal   {report.journalled}")
    print_line(f"runs in the buffer    {report.waiting} waiting")
    if report.compared_with and report.stored:
        print_line(f"runs stored           {report.stored} ({printable(report.compared_with)})")
    for host in report.hosts:
        left = f"{host.backlog_records} records waiting, {host.rejected} refused, {host.lost} lost"
        print_line(f"host                  {printable(host.host)}, heard of at {printable(host.last_seen)}: {left}")
    if report.deleted:
        print_line(f"runs deleted          {report.deleted}")
    _print_lines(report)
    words = _OF_SERVICE if "://" in report.compared_with else _OF_DATABASE
    for name, sentence in _EXPLANATIONS.items():
        if report.counts[name]:
            _print_runs(report, name, sentence.format(**words))
    _print_events_and_steps(report)
    if report.not_compared:
        print_line(f"not compared          {printable(report.not_compared)}", "yellow")
        print_line("Nothing is missing here. Whether the runs are stored is not known.")
    elif report.ok:
        print_line("Nothing is missing.", "green")


def _print_lines(report: "VerifyReport") -> None:
    """Print which lines are missing, torn and repeated."""
    if report.missing_lines:
        print_line(f"error  {report.missing_lines} lines are missing:", "red")
    for gap in report.gaps:
        more = f" to {gap.last}" if gap.lines > 1 else ""
        print_line(f"         writer {printable(gap.writer)}: number {gap.first}{more}")
    for day, number in report.torn.items():
        print_line(f"error  {printable(day)}: {number} torn lines", "red")
    if report.repeated_lines:
        print_line(f"error  {report.repeated_lines} line numbers occur more than once", "red")
    for line in report.odd_lines:
        print_line(f"         {printable(line.file)} line {line.line}: {printable(line.reason)}")


def _print_events_and_steps(report: "VerifyReport") -> None:
    """Print how many events and steps were compared with the service, and how they differ."""
    if report.lines_compared:
        print_line(f"events and steps      {report.lines_compared} compared")
    for name, sentence in _OF_LINES.items():
        if number := report.line_counts[name]:
            print_line(f"error  {'at least ' if report.lines_cut_short else ''}{number} {sentence}", "red")
        for line in report.line_findings[name]:
            print_line(
                f"         writer {printable(line.writer)}: number {line.seq}  {printable(line.event_id)}".rstrip()
            )


def _print_runs(report: "VerifyReport", name: str, sentence: str) -> None:
    """Print a finding about runs, and the first of the runs unless the finding can be expected."""
    from otel_agent_telemetry.operations.verify_report import NOTES

    is_note = name in NOTES
    print_line(f"{'note ' if is_note else 'error'}  {report.counts[name]} {sentence}", "" if is_note else "red")
    for run in [] if is_note else report.runs[name]:
        columns = ", ".join(report.columns.get(run.event_id, ())) if name == "altered" else ""
        print_line(f"         {printable(run.run_id)}  {printable(run.event_id)}  {columns}".rstrip())
