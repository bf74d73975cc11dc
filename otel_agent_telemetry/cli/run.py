"""`agent-telemetry run`.

Runs a command as a run: `operations.command_run`. Its exit status is the command's.
"""

import sys
from typing import Annotated

import typer

from otel_agent_telemetry.cli.invocation import invocation_of, warnings_left_out


def run(
    context: typer.Context,
    command: Annotated[list[str], typer.Argument(help="The command and its arguments.", metavar="COMMAND...")],
    agent: Annotated[str, typer.Option(help="Name of the run's agent; by default that of the command.")] = "",
    job_type: Annotated[str, typer.Option(help="Job type of the run.")] = "command",
    label: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, a label of the run; may be repeated.")] = None,
    otlp: Annotated[
        bool, typer.Option("--otlp", help="Let the command send OTLP to the service: sets OTEL_EXPORTER_OTLP_*.")
    ] = False,
) -> None:
    """Run a command as a run.

    Terminal, standard streams and signals are the command's, and so is the exit status: 128 + n by signal n,
    127 for a command that is not found, 126 for one that cannot be executed. What the command starts and records
    belongs to its run.
    """
    if sys.platform == "win32":
        raise typer.BadParameter("run needs a POSIX system")
    from otel_agent_telemetry.config import process_environment
    from otel_agent_telemetry.operations.command_run import Asked, run_command

    asked = Asked(command, agent, job_type, _labels(label or []), otlp)
    # A service that is away loses nothing, and standard error is the command's: a job of cron would mail it.
    with warnings_left_out():
        raise typer.Exit(run_command(asked, invocation_of(context).config, process_environment()))


def _labels(given: list[str]) -> dict[str, str]:
    """Return name → value of labels. Raises typer.BadParameter."""
    pairs = [text.partition("=") for text in given]
    if any(not name.strip() or not equals for name, equals, _ in pairs):
        raise typer.BadParameter("a label is NAME=VALUE", param_hint="--label")
    return {name.strip(): value for name, _, value in pairs}
