"""What the command's exit status means; stable, and documented in `docs/cli.md`."""

from __future__ import annotations

from enum import IntEnum

from otel_agent_telemetry.errors import AgentTelemetryError, ConfigurationError, RecordError


class ExitCode(IntEnum):
    """One meaning each, the same for every command."""

    OK = 0
    """Done, and nothing is wrong."""
    PROBLEM = 1
    """Done, and something is wrong: a check failed, a record was refused; or an error of ours."""
    USAGE = 2
    """An option, an argument or a setting cannot be used; nothing was done."""
    NOT_FOUND = 3
    """No such run."""
    STORE_UNAVAILABLE = 4
    """The database, the service, or a file cannot be used now, or is not ours."""
    TIMEOUT = 5
    """The time was over before everything was done; nothing is lost."""
    INTERRUPTED = 130
    """Stopped by Ctrl-C (`tail` ends so with 0)."""


def code_of(problem: AgentTelemetryError | OSError) -> ExitCode:
    """The exit status for an expected error."""
    if isinstance(problem, (ConfigurationError, RecordError)):
        return ExitCode.USAGE
    return ExitCode.STORE_UNAVAILABLE
