"""`agent-telemetry instrument COMMAND`: start a Python program whose runs are recorded, without changing it."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.invocation import invocation_of
from otel_agent_telemetry.cli.output import print_stderr

_PATH = "PYTHONPATH"
_NOT_FOUND = 127
_CANNOT_RUN = 126


def instrument(
    context: typer.Context,
    command: Annotated[
        list[str], typer.Argument(help="The program and its arguments: python app.py, app.py, gunicorn app:app.")
    ],
) -> ExitCode:
    """Start a program whose runs are recorded, and the Python processes that it starts.

    Nothing of it is changed: a tracer provider that it sets is added to, and nothing is exported elsewhere unless
    OTEL_EXPORTER_OTLP_ENDPOINT asks for it. Libraries are instrumented for which an instrumentation is installed.
    The program takes the place of this command, so signals and exit status are its own.
    """
    from otel_agent_telemetry.config import process_environment
    from otel_agent_telemetry.otel import at_start

    environment = dict(process_environment())
    folder = str(Path(at_start.__file__).parent)
    paths = [folder, *filter(None, environment.get(_PATH, "").split(os.pathsep))]
    # Once: a program that is started so may start others so.
    environment[_PATH] = os.pathsep.join(dict.fromkeys(paths))
    if context.find_root().params.get("base_dir") is not None:
        environment["TELEMETRY_BASE_DIR"] = str(invocation_of(context).config.base_dir)
    # A script need not be executable, and `python` may be another one in PATH.
    if command[0].endswith(".py"):
        command = [sys.executable, *command]
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606 - what the user typed is what is to run
    except OSError as problem:
        print_stderr(f"{command[0]}: cannot be started: {problem.strerror}")
        raise typer.Exit(_NOT_FOUND if isinstance(problem, FileNotFoundError) else _CANNOT_RUN) from None
