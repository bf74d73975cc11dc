"""`agent-telemetry doctor`."""

from typing import Annotated

import typer

from otel_agent_telemetry.cli.exit_codes import ExitCode
from otel_agent_telemetry.cli.output import print_json, say, style_of
from otel_agent_telemetry.cli.runs import AsJson
from otel_agent_telemetry.cli.session import now_ns, session_of
from otel_agent_telemetry.cli.terminal_text import printable


def doctor(
    context: typer.Context,
    settings: Annotated[bool, typer.Option("--settings", help="Show every setting, not only those set.")] = False,
    as_json: AsJson = False,
) -> ExitCode:
    """Look for problems and say how to mend them.

    Exit status 1 on an error; warnings alone leave it 0. Changes nothing.
    """
    from dataclasses import asdict

    from otel_agent_telemetry.operations.doctor import examine

    config = session_of(context).config
    known = config.describe()
    if as_json:
        findings = list(examine(config, now_ns=now_ns()))
        print_json({"settings": known, "findings": [asdict(finding) for finding in findings]})
        return ExitCode.PROBLEM if any(finding.level == "error" for finding in findings) else ExitCode.OK
    _print_settings(known, everything=settings)
    worst = ExitCode.OK
    for finding in examine(config, now_ns=now_ns()):
        say(f"{finding.level:<5}  {finding.about:<13}  {printable(finding.text)}", style_of(finding.level))
        if finding.mend and finding.level != "ok":
            say(f"{'':<22}mend: {printable(finding.mend)}")
        if finding.level == "error":
            worst = ExitCode.PROBLEM
    return worst


def _print_settings(known: dict[str, str], *, everything: bool) -> None:
    from otel_agent_telemetry.config import SETTINGS

    for setting in SETTINGS:
        shown = known[setting.field]
        default = "-" if setting.default is None else str(setting.default)
        if everything or shown != default:
            say(f"{setting.field:<24}{printable(shown)}")
    say()
