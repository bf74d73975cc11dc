"""`agent-telemetry capture-query`.

Lists the entries of the JSON file through `capture.TelemetryCapture`; the database is not used.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from otel_agent_telemetry.cli.capture import TelemetryFile
from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.invocation import AsJson, invocation_of
from otel_agent_telemetry.cli.output import print_json, print_line, print_stderr, print_table, printable, shortened

if TYPE_CHECKING:
    from otel_agent_telemetry.capture.entry import Entry

_HEADINGS = ("TIMESTAMP", "STATUS", "DURATION", "SKILL", "CALLER", "ERROR", "RUN ID")
_ERROR_WIDTH = 60
_MAX_LIMIT = 1_000_000


def capture_query(
    context: typer.Context,
    skill: Annotated[str | None, typer.Option(help="Only entries of this skill.")] = None,
    status: Annotated[
        str | None, typer.Option(help="Only entries with this status: success, failure, timeout, error or pending.")
    ] = None,
    caller: Annotated[str | None, typer.Option(help="Only entries of this caller.")] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=_MAX_LIMIT, help="Number of entries to list at most.")
    ] = 50,
    file: TelemetryFile = None,
    as_json: AsJson = False,
) -> ExitCode:
    """List captured entries, newest first."""
    from otel_agent_telemetry.capture.entry import checked_status
    from otel_agent_telemetry.capture.telemetry_capture import TelemetryCapture

    if status is not None:
        try:
            checked_status(status)
        except ValueError as problem:
            print_stderr(f"Error: {problem}")
            return ExitCode.USAGE
    capturing = TelemetryCapture(file, config=invocation_of(context).config)
    found = capturing.query(skill, status, caller, limit)
    if as_json:
        print_json(found)
    elif found:
        print_table(_HEADINGS, map(_row, found), status_column=1)
    elif not capturing.telemetry_file.exists():
        print_stderr(f"No entries yet: {capturing.telemetry_file} does not exist; the first capture creates it.")
    else:
        print_line("No entries match.")
    return ExitCode.OK


def _row(entry: "Entry") -> tuple[str, ...]:
    """Return an entry as cells. Other programs write the file too: a member can be missing or of any type."""
    duration = entry.get("duration_ms")
    texts = (
        entry.get("timestamp"),
        entry.get("status"),
        f"{duration:.1f} ms" if isinstance(duration, (int, float)) else None,
        entry.get("skill"),
        entry.get("caller"),
        entry.get("error_message"),
        entry.get("run_id"),
    )
    return tuple("-" if text is None else shortened(printable(text), _ERROR_WIDTH) for text in texts)
