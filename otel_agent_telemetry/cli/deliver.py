"""`agent-telemetry deliver`.

Runs `operations.deliver` until SIGTERM or Ctrl-C.
"""

import signal
import threading

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.invocation import invocation_of


def deliver(context: typer.Context) -> ExitCode:
    """Deliver what this host's processes buffer, until stopped.

    For hosts where no recording process runs for long, such as one with cron jobs: after an
    outage of the service their records are delivered without another run. Stops on SIGTERM or
    Ctrl-C. While another process delivers, waits to take over.
    """
    from otel_agent_telemetry.operations.deliver import deliver_until_stopped

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # In the main thread, where Python runs the signal handlers that set `stop`.
    deliver_until_stopped(invocation_of(context).config, stop)
    return ExitCode.OK
