"""One call of the command: its configuration, where it reads runs, and the delivery before a read."""

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from otel_agent_telemetry.cli.output import print_stderr
from otel_agent_telemetry.config import TelemetryConfig

if TYPE_CHECKING:
    from otel_agent_telemetry.operations.run_reader import RunReader

_log = logging.getLogger(__name__)
_SYNC_S = 2.0
_REQUEST_TIMEOUT_S = 0.5


@dataclass(frozen=True, slots=True)
class Invocation:
    """The values of the global options; every command gets them from its context."""

    config: TelemetryConfig

    def open_reader(self) -> "RunReader":
        """Return the reader of the place that has the runs: a service, else the local database."""
        from otel_agent_telemetry.operations.run_reader import open_reader

        return open_reader(self.config)


def invocation_of(context: typer.Context) -> Invocation:
    """Return the invocation that the global options made."""
    invocation = context.find_object(Invocation)
    # The callback of the global options runs before every command.
    assert invocation is not None
    return invocation


def sync_before_read(invocation: Invocation) -> None:
    """Deliver what waits in the buffer, unless another process is delivering. Blocks for 2 s at most; never fails.

    So a run whose process was killed a moment ago is shown as failed.
    """
    from otel_agent_telemetry.operations.deliver_now import deliver_now, with_short_timeouts

    config = with_short_timeouts(invocation.config, timeout_s=_REQUEST_TIMEOUT_S)
    try:
        report = deliver_now(config, timeout_s=_SYNC_S, wait_for_others=False)
        _log.debug("delivery before the read: %s", report)
    except Exception as problem:  # the read does not depend on it
        _log.info("delivery before the read failed: %s", problem)


def note_other_service(invocation: Invocation) -> None:
    """Print a note when a service has the runs, for commands that work on the local database alone."""
    config, service = invocation.config, invocation.open_reader().service
    if service:
        print_stderr(f"Runs of {config.base_dir} go to {service}; this command works on the local database.")


def note_missing_database(invocation: Invocation) -> None:
    """Print a note that there is no database yet, and where it would be."""
    where = "the configured database" if invocation.config.database_url else invocation.config.db_path
    print_stderr(f"No runs yet: {where} does not exist or is empty; the first run creates it.")


def now_ns() -> int:
    """Return the current time in nanoseconds since the epoch."""
    return time.time_ns()
