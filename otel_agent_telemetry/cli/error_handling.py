"""The outer edge of each command: expected errors become one line and an exit status."""

import functools
import logging
import os
import sys
from collections.abc import Callable
from typing import ParamSpec

import typer

from otel_agent_telemetry.cli.exit_codes import ExitCode, code_of
from otel_agent_telemetry.cli.output import remark
from otel_agent_telemetry.cli.terminal_text import printable
from otel_agent_telemetry.errors import AgentTelemetryError

P = ParamSpec("P")
_log = logging.getLogger(__name__)


def guarded(command: Callable[P, ExitCode | None]) -> Callable[P, None]:
    """The command with its result as the exit status, and no traceback whatever happens.

    A reader that went away (`| head`) is no error; Ctrl-C is 130.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        code = _outcome(lambda: command(*args, **kwargs))
        if code is not ExitCode.OK:
            raise typer.Exit(int(code))

    run.__annotations__ = {**command.__annotations__, "return": None}
    return run


def _outcome(command: Callable[[], ExitCode | None]) -> ExitCode:
    try:
        code = command() or ExitCode.OK
        sys.stdout.flush()
    except BrokenPipeError:
        _let_go_of_stdout()
        return ExitCode.OK
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except (AgentTelemetryError, OSError) as problem:
        return complain(problem)
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except Exception as problem:  # the outer edge of the command
        remark(f"agent-telemetry: an error of its own: {type(problem).__name__}: {problem}")
        _log.debug("the command failed", exc_info=problem)
        return ExitCode.PROBLEM
    return code


def complain(problem: AgentTelemetryError | OSError) -> ExitCode:
    """Say what went wrong and what to do, on one line of stderr."""
    hint = f" - {problem.hint}" if isinstance(problem, AgentTelemetryError) and problem.hint else ""
    remark(f"agent-telemetry: {problem}{hint}")
    return code_of(problem)


def _let_go_of_stdout() -> None:
    """Nobody reads: keep the interpreter's own last flush from failing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class PlainFormatter(logging.Formatter):
    """Log lines that a terminal may get: a run id in a message is anyone's text."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, or with a traceback the lines."""
        return "\n".join(printable(line) for line in super().format(record).split("\n"))


class _StderrHandler(logging.StreamHandler):  # type: ignore[type-arg]  # generic in stubs only
    """Writes to what `sys.stderr` is at that moment."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(PlainFormatter("agent-telemetry: %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def log_to_stderr(level: str) -> None:
    """Send the package's log to stderr from this level on. Repeating it only changes the level."""
    logger = logging.getLogger("otel_agent_telemetry")
    if not any(isinstance(handler, _StderrHandler) for handler in logger.handlers):
        logger.addHandler(_StderrHandler())
    logger.setLevel(level)
