"""`agent-telemetry doctor`.

Prints the findings of `operations.doctor` as they come; each has a way to fix it.
"""

from typing import Annotated

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.invocation import AsJson, invocation_of, now_ns
from otel_agent_telemetry.cli.output import print_json, print_line, printable, style_of


def doctor(
    context: typer.Context,
    settings: Annotated[
        bool, typer.Option("--settings", help="Show every setting, not only those that differ from their default.")
    ] = False,
    as_json: AsJson = False,
) -> ExitCode:
    """Look for problems and report how to fix them.

    Exit status 1 on an error; warnings alone leave it 0. Changes nothing.
    """
    from dataclasses import asdict

    from otel_agent_telemetry.config import process_environment
    from otel_agent_telemetry.operations.doctor import examine

    config = invocation_of(context).config
    settings_in_use = config.describe()
    if as_json:
        findings = list(examine(config, now_ns=now_ns(), environ=process_environment()))
        print_json({"settings": settings_in_use, "findings": [asdict(finding) for finding in findings]})
        return ExitCode.PROBLEM if any(finding.level == "error" for finding in findings) else ExitCode.OK
    _print_settings(settings_in_use, everything=settings)
    worst = ExitCode.OK
    for finding in examine(config, now_ns=now_ns(), environ=process_environment()):
        print_line(f"{finding.level:<5}  {finding.about:<13}  {printable(finding.text)}", style_of(finding.level))
        if finding.fix and finding.level != "ok":
            print_line(f"{'':<22}fix: {printable(finding.fix)}")
        if finding.level == "error":
            worst = ExitCode.PROBLEM
    return worst


def _print_settings(values: dict[str, str], *, everything: bool) -> None:
    """Print the settings that differ from their default, or all of them; secrets are masked."""
    from otel_agent_telemetry.settings import SETTINGS

    for setting in SETTINGS:
        shown = values[setting.field]
        default = "-" if setting.default is None else str(setting.default)
        if everything or shown != default:
            print_line(f"{setting.field:<24}{printable(shown)}")
    print_line()
