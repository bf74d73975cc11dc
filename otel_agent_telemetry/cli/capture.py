"""`agent-telemetry capture`."""

import json
from typing import Annotated, Any

import typer

from otel_agent_telemetry.cli.exit_codes import ExitCode
from otel_agent_telemetry.cli.output import remark, say
from otel_agent_telemetry.cli.session import session_of
from otel_agent_telemetry.cli.terminal_text import printable

TelemetryFile = Annotated[
    str | None,
    typer.Option("--file", help="The JSON file, instead of BETTY_TELEMETRY_FILE or {base}/registry/telemetry.json."),
]


def capture(
    context: typer.Context,
    skill: Annotated[str, typer.Argument(help="What was done, such as plugin.build.")],
    status: Annotated[str, typer.Argument(help="success, failure, timeout, error or pending.")],
    duration_ms: Annotated[float, typer.Argument(min=0, help="How long it took, in milliseconds.")],
    caller: Annotated[str, typer.Argument(help="Who asked for it: CLI, API, workflow.compose …")],
    inputs: Annotated[str, typer.Argument(metavar="[INPUTS_JSON]", help="A JSON object.")] = "{}",
    error: Annotated[str | None, typer.Argument(help="Why it did not succeed.")] = None,
    file: TelemetryFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the entry alone.")] = False,
) -> ExitCode:
    """Capture work that is over: an entry in the JSON file, and a run."""
    from otel_agent_telemetry.capture.entry import checked_status
    from otel_agent_telemetry.capture.telemetry_capture import TelemetryCapture

    try:
        given = _inputs(inputs)
        checked_status(status)
    except ValueError as problem:
        remark(f"Error: {problem}")
        return ExitCode.USAGE
    capturing = TelemetryCapture(file, config=session_of(context).config)
    if capturing.client.config.sdk_disabled:
        remark("Error: OTEL_SDK_DISABLED is true: nothing was captured.")
        return ExitCode.PROBLEM
    try:
        entry, failure = capturing.try_capture(skill, status, duration_ms, caller, inputs=given, error_message=error)
    finally:
        capturing.client.close()
    print(json.dumps(entry, indent=2))
    if failure is not None:
        remark(f"Error: not written to {capturing.telemetry_file}: {failure}")
        return ExitCode.STORE_UNAVAILABLE
    if not as_json:
        say(f"\n✓ Telemetry captured to {printable(capturing.telemetry_file)}")
    return ExitCode.OK


def _inputs(text: str) -> dict[str, Any]:
    """The inputs. Raises ValueError that says what is wrong with them, and quotes none of them."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise ValueError(f"Invalid JSON for inputs: {problem}") from None
    if not isinstance(given, dict):
        raise ValueError('Invalid JSON for inputs: an object is expected, such as \'{"task": "design_api"}\'')  # noqa: TRY004 - one kind of error here
    return given
