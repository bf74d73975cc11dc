"""`agent-telemetry capture-query`.

Lists the entries of the JSON file through `capture.TelemetryCapture`; the database is not used.
"""

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from otel_agent_telemetry.cli.capture import TelemetryFile
from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.fitted_table import WIDE, Column, print_fitted
from otel_agent_telemetry.cli.invocation import AsJson, Utc, invocation_of, time_bounds
from otel_agent_telemetry.cli.output import (
    format_duration,
    format_moment,
    format_start,
    print_json,
    print_line,
    print_stderr,
    print_table,
    printable,
    shortened,
    width_of_stdout,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_agent_telemetry.capture.entry import Entry

_HEADINGS = ("TIMESTAMP", "STATUS", "DURATION", "SKILL", "CALLER", "ERROR", "RUN ID")
_ERROR_WIDTH = 60
_MAX_LIMIT = 1_000_000
_SECOND_MS = 1000
_CENTURY_MS = 3_155_760_000_000
_OWN_ID = 16
_ENDING = re.compile(r"-([0-9a-f]{8})\Z")
"""How run ids end that this package made; `show` finds a run by it."""


def capture_query(
    context: typer.Context,
    skill: Annotated[str | None, typer.Option(help="Only entries of this skill.")] = None,
    status: Annotated[
        str | None, typer.Option(help="Only entries with this status: success, failure, timeout, error or pending.")
    ] = None,
    caller: Annotated[str | None, typer.Option(help="Only entries of this caller.")] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Only entries captured at or after: an ISO 8601 time, a day, yesterday, an age (2h)."),
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Only entries captured at or before; of a day, until its end.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=_MAX_LIMIT, help="Number of entries to list at most.")
    ] = 50,
    file: TelemetryFile = None,
    utc: Utc = False,
    as_json: AsJson = False,
) -> ExitCode:
    """List captured entries, newest first, one line each."""
    from otel_agent_telemetry.capture.entry import checked_status
    from otel_agent_telemetry.capture.telemetry_capture import TelemetryCapture

    if status is not None:
        try:
            checked_status(status)
        except ValueError as problem:
            print_stderr(f"Error: {problem}")
            return ExitCode.USAGE
    first, last = time_bounds(since, until, utc=utc)
    capturing = TelemetryCapture(file, config=invocation_of(context).config)
    # One more than is shown, to know whether there are more.
    found = capturing.query(skill, status, caller, limit + 1, since=first, until=last)
    shown = found[:limit]
    if as_json:
        print_json(shown)
    elif shown:
        _print_entries(shown, utc=utc)
    elif not capturing.telemetry_file.exists():
        print_stderr(f"No entries yet: {capturing.telemetry_file} does not exist; the first capture creates it.")
    else:
        print_line("No entries match.")
    if len(found) > limit:
        print_stderr(
            f"The newest {limit:,} entries of more; --limit N lists more, --since and --until those of a time."
        )
    return ExitCode.OK


def _print_entries(entries: "Sequence[Entry]", *, utc: bool) -> None:
    """Print a table of entries; on a terminal one line each, whatever its width."""
    width = width_of_stdout()
    if width is None:
        print_table(_HEADINGS, [_row(entry, utc=utc) for entry in entries])
        return
    columns = entry_columns(entries, is_wide=width >= WIDE, utc=utc, now=datetime.now(UTC))
    print_fitted(columns, width=width, statuses=[str(entry.get("status")) for entry in entries])


def entry_columns(entries: "Sequence[Entry]", *, is_wide: bool, utc: bool, now: datetime) -> list[Column]:
    """Return the columns of a terminal. All may be cut but figures and ids, since anyone writes the file."""

    def texts(name: str) -> list[str]:
        return [_text(entry, name) for entry in entries]

    starts = [format_start(text, is_wide=is_wide, utc=utc, now=now) for text in texts("timestamp")]
    return [
        Column("CAPTURED", starts, share=0.25),
        Column("STATUS", texts("status"), share=0.15),
        Column("TOOK", [_took(entry) for entry in entries], right=True),
        Column("SKILL", texts("skill"), share=0.2),
        Column("CALLER", texts("caller"), share=0.2),
        Column("ERROR", texts("error_message"), rest=True),
        Column("ID", [_short_id(text) for text in texts("run_id")]),
    ]


def _row(entry: "Entry", *, utc: bool) -> tuple[str, ...]:
    """Return an entry as cells of a pipe, where nothing is cut but the error."""
    names = ("status", None, "skill", "caller", "error_message", "run_id")
    cells = [_took(entry) if name is None else _text(entry, name) for name in names]
    cells[names.index("error_message")] = shortened(cells[names.index("error_message")], _ERROR_WIDTH)
    return format_moment(_text(entry, "timestamp"), utc=utc), *cells


def _text(entry: "Entry", name: str) -> str:
    """Return a member as text. Other programs write the file too: it can be missing or of any type."""
    value = entry.get(name)
    return "-" if value is None else printable(value)


def _short_id(run_id: str) -> str:
    """Return the end of a run id that this package made, else the id, cut where it is long."""
    ending = _ENDING.search(run_id)
    return ending[1] if ending else shortened(run_id, _OWN_ID)


def _took(entry: "Entry") -> str:
    """Return the time that an entry took, with a fraction below a second."""
    duration = entry.get("duration_ms")
    if isinstance(duration, bool) or not isinstance(duration, (int, float)) or not 0 <= duration < _CENTURY_MS:
        return "-"
    return f"{duration:.1f} ms" if duration < _SECOND_MS else format_duration(int(duration))
