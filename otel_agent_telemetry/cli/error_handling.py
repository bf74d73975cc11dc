"""The outer edge of each command: exit statuses, expected errors as one line, and the log on stderr."""

import errno
import functools
import io
import logging
import os
import sys
from collections.abc import Callable
from enum import IntEnum
from typing import ParamSpec

import typer

from otel_agent_telemetry.cli.output import print_stderr, printable
from otel_agent_telemetry.errors import AgentTelemetryError, ConfigurationError, RecordError

P = ParamSpec("P")
_log = logging.getLogger(__name__)


class ExitCode(IntEnum):
    """Exit statuses, with the same meaning for every command; stable, and documented in `docs/cli.md`."""

    OK = 0
    """Done, and nothing is wrong."""
    PROBLEM = 1
    """Done, and something is wrong: a check failed or a record was refused; or an internal error."""
    USAGE = 2
    """An option, an argument or a setting cannot be used; nothing was done."""
    NOT_FOUND = 3
    """No such run."""
    STORE_UNAVAILABLE = 4
    """The database, the service or a file cannot be used now, or belongs to another application."""
    TIMEOUT = 5
    """The time was over before everything was done; nothing is lost."""
    NOT_COMPARED = 6
    """`verify`: nothing wrong was found, but the place that has the runs could not be read."""
    INTERRUPTED = 130
    """Stopped by Ctrl-C (`tail` ends with 0)."""


def with_exit_status(command: Callable[P, ExitCode | None]) -> Callable[P, None]:
    """Return the command with its result as the exit status; no exception leaves it as a traceback.

    A reader that closed the pipe (`| head`) is not an error; Ctrl-C exits with 130.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        code = _run(lambda: command(*args, **kwargs))
        if code is not ExitCode.OK:
            raise typer.Exit(int(code))

    # Typer reads the options from the annotations; the return value is not the command's.
    run.__annotations__ = {**command.__annotations__, "return": None}
    return run


def _run(command: Callable[[], ExitCode | None]) -> ExitCode:
    """Run the command and return its exit status, whatever it raises."""
    try:
        code = command() or ExitCode.OK
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_stdout()
        return ExitCode.OK
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except (AgentTelemetryError, OSError) as problem:
        return report_error(problem)
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except Exception as problem:  # the outer edge of the command
        print_stderr(f"agent-telemetry: internal error: {type(problem).__name__}: {problem}")
        _log.debug("the command failed", exc_info=problem)
        return ExitCode.PROBLEM
    return code


class ClosedStdout(io.TextIOBase):
    """What takes the place of a stdout that was closed before the start: a command that prints nothing goes on."""

    def write(self, _text: str) -> int:
        """Raise OSError, as a full disk does."""
        raise OSError(errno.EBADF, "stdout is closed")

    @property
    def buffer(self) -> "ClosedStdout":
        """Return what bytes cannot be written to either."""
        return self


def run_app(app: Callable[[], object]) -> None:
    """Call the application; where help or the version cannot be printed, exit as a command does."""
    if sys.stdout is None:
        sys.stdout = ClosedStdout()
    ended: SystemExit | None = None
    try:
        try:
            app()
        except SystemExit as problem:
            ended = problem
        # Here and not at the interpreter's exit, which would end with a status of its own.
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_stdout()
    except OSError as problem:
        _discard_stdout()
        # A command that failed has said why, and keeps its status.
        if ended is None or not ended.code:
            sys.exit(report_error(problem))
    if ended is not None:
        raise ended


def report_error(problem: AgentTelemetryError | OSError) -> ExitCode:
    """Print an expected error and its hint as one line on stderr, and return its exit status."""
    hint = f" - {problem.hint}" if isinstance(problem, AgentTelemetryError) and problem.hint else ""
    print_stderr(f"agent-telemetry: {problem}{hint}")
    return ExitCode.USAGE if isinstance(problem, (ConfigurationError, RecordError)) else ExitCode.STORE_UNAVAILABLE


def _discard_stdout() -> None:
    """Point stdout at the null device where nothing can be written to it."""
    if isinstance(sys.stdout, ClosedStdout):
        return
    # The interpreter flushes stdout once more at exit, which would fail once more.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class PrintableFormatter(logging.Formatter):
    """Formats log lines so that they are safe to print: a message can quote anyone's run id."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and with a traceback its lines."""
        return "\n".join(printable(line) for line in super().format(record).split("\n"))


class _StderrHandler(logging.StreamHandler):  # type: ignore[type-arg]  # generic in stubs only
    """Writes to what `sys.stderr` is when a line is logged, which tests and runners replace."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(PrintableFormatter("%(asctime)s agent-telemetry: %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Write to the stream that is stderr now: tests, and programs, replace it."""
        self.stream = sys.stderr
        super().emit(record)


def log_to_stderr(level: str) -> None:
    """Send the package's log to stderr from this level on. Called again, it only changes the level."""
    logger = logging.getLogger("otel_agent_telemetry")
    if not any(isinstance(handler, _StderrHandler) for handler in logger.handlers):
        logger.addHandler(_StderrHandler())
    logger.setLevel(level)
