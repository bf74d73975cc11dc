"""`agent-telemetry capture-query`."""

from typing import TYPE_CHECKING, Annotated

import typer

from otel_agent_telemetry.cli.capture import TelemetryFile
from otel_agent_telemetry.cli.exit_codes import ExitCode
from otel_agent_telemetry.cli.output import print_json, print_table, remark, say
from otel_agent_telemetry.cli.runs import AsJson
from otel_agent_telemetry.cli.session import session_of
from otel_agent_telemetry.cli.terminal_text import printable, shortened

if TYPE_CHECKING:
    from otel_agent_telemetry.capture.entry import Entry

_HEADINGS = ("TIMESTAMP", "STATUS", "DURATION", "SKILL", "CALLER", "ERROR", "RUN ID")
_ERROR_WIDTH = 60
_MOST = 1_000_000


def capture_query(
    context: typer.Context,
    skill: Annotated[str | None, typer.Option(help="Of this skill.")] = None,
    status: Annotated[str | None, typer.Option(help="success, failure, timeout, error or pending.")] = None,
    caller: Annotated[str | None, typer.Option(help="Of this caller.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=_MOST, help="At most so many.")] = 50,
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
            remark(f"Error: {problem}")
            return ExitCode.USAGE
    capturing = TelemetryCapture(file, config=session_of(context).config)
    found = capturing.query(skill, status, caller, limit)
    if as_json:
        print_json(found)
    elif found:
        print_table(_HEADINGS, map(_row, found), status_column=1)
    elif not capturing.telemetry_file.exists():
        remark(f"No entries yet: {capturing.telemetry_file} does not exist; the first capture makes it.")
    else:
        say("No entries match.")
    return ExitCode.OK


def _row(entry: "Entry") -> tuple[str, ...]:
    """One entry as cells: the file is anyone's, so a member may be missing or of any type."""
    took = entry.get("duration_ms")
    texts = (
        entry.get("timestamp"),
        entry.get("status"),
        f"{took:.1f} ms" if isinstance(took, (int, float)) else None,
        entry.get("skill"),
        entry.get("caller"),
        entry.get("error_message"),
        entry.get("run_id"),
    )
    return tuple("-" if text is None else shortened(printable(text), _ERROR_WIDTH) for text in texts)
