"""`agent-telemetry doctor`.

Prints the findings of `operations.doctor`, the most urgent first; each has a way to fix it.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.invocation import AsJson, invocation_of, now_ns
from otel_agent_telemetry.cli.output import fill, print_json, print_line, printable, style_of, width_of_stdout

if TYPE_CHECKING:
    from otel_agent_telemetry.operations.check_environment import Finding

_INDENT = len("error  ")


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
    found = sorted(examine(config, now_ns=now_ns(), environ=process_environment()), key=_urgency)
    for finding in found:
        _print_finding(finding)
    print_line()
    _print_settings(settings_in_use, everything=settings)
    return ExitCode.PROBLEM if found and found[0].level == "error" else ExitCode.OK


def _urgency(finding: "Finding") -> int:
    """Return the place of a finding's level: errors, warnings, then what is fine."""
    return ("error", "warn", "ok").index(finding.level)


def _print_finding(finding: "Finding") -> None:
    """Print a finding, and how to fix it on a line of its own; on a terminal further lines are indented."""
    width = width_of_stdout()
    texts = [(f"{finding.level:<5}  {finding.about:<13}  ", finding.text, style_of(finding.level))]
    if finding.fix and finding.level != "ok":
        texts.append((f"{'':<{_INDENT}}fix: ", finding.fix, ""))
    for first, text, style in texts:
        lines = [first + printable(text)] if width is None else fill(printable(text), width=width, first=first)
        for line in lines:
            print_line(line, style)


def _print_settings(values: dict[str, str], *, everything: bool) -> None:
    """Print the settings that differ from their default, or all of them; secrets are masked."""
    from otel_agent_telemetry.settings import SETTINGS

    for setting in SETTINGS:
        shown = values[setting.field]
        default = "-" if setting.default is None else str(setting.default)
        if everything or shown != default:
            print_line(f"{setting.field:<24}{printable(shown)}")
