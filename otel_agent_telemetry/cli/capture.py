"""`agent-telemetry capture`.

Adds one entry through `capture.TelemetryCapture`; prints what seed 004 prints.
"""

import json
from typing import Annotated, Any

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.invocation import invocation_of
from otel_agent_telemetry.cli.output import print_line, print_stderr, printable

TelemetryFile = Annotated[
    str | None,
    typer.Option("--file", help="JSON file; default BETTY_TELEMETRY_FILE, else {base}/registry/telemetry.json."),
]


def capture(
    context: typer.Context,
    skill: Annotated[str, typer.Argument(help="Name of the work, such as plugin.build.")],
    status: Annotated[str, typer.Argument(help="success, failure, timeout, error or pending.")],
    duration_ms: Annotated[float, typer.Argument(min=0, help="Duration in milliseconds.")],
    caller: Annotated[str, typer.Argument(help="What started it: CLI, API, workflow.compose …")],
    inputs: Annotated[
        str, typer.Argument(metavar="[INPUTS_JSON]", help="Inputs of the work, as a JSON object.")
    ] = "{}",
    error: Annotated[str | None, typer.Argument(help="Error message of work that did not succeed.")] = None,
    file: TelemetryFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print only the entry.")] = False,
) -> ExitCode:
    """Record finished work as an entry in the JSON file, and as a run."""
    from otel_agent_telemetry.capture.entry import checked_status
    from otel_agent_telemetry.capture.telemetry_capture import TelemetryCapture

    try:
        parsed_inputs = _parse_inputs(inputs)
        checked_status(status)
    except ValueError as problem:
        print_stderr(f"Error: {problem}")
        return ExitCode.USAGE
    capturing = TelemetryCapture(file, config=invocation_of(context).config)
    # A script that records must learn that nothing was: the client alone would accept the call and do nothing.
    if capturing.client.config.sdk_disabled:
        print_stderr("Error: OTEL_SDK_DISABLED is true: nothing was captured.")
        return ExitCode.PROBLEM
    try:
        entry, failure = capturing.try_capture(
            skill, status, duration_ms, caller, inputs=parsed_inputs, error_message=error
        )
    finally:
        capturing.client.close()
    # ASCII, so it is safe on any terminal without escaping.
    print(json.dumps(entry, indent=2))
    if failure is not None:
        print_stderr(f"Error: not written to {capturing.telemetry_file}: {failure}")
        return ExitCode.STORE_UNAVAILABLE
    if not as_json:
        print_line(f"\n✓ Telemetry captured to {printable(capturing.telemetry_file)}")
    return ExitCode.OK


def _parse_inputs(text: str) -> dict[str, Any]:
    """Return the inputs. Raises ValueError, whose message quotes none of their values."""
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise ValueError(f"Invalid JSON for inputs: {problem}") from None
    if not isinstance(parsed, dict):
        raise ValueError('Invalid JSON for inputs: an object is expected, such as \'{"task": "design_api"}\'')  # noqa: TRY004 - the caller catches one type
    return parsed
