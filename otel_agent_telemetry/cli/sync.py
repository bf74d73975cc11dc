"""`agent-telemetry sync`.

Delivers the buffer through `operations.deliver` and reports the result.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.invocation import AsJson, invocation_of
from otel_agent_telemetry.cli.output import format_size, print_json, print_line, print_stderr, printable, progress_bar

if TYPE_CHECKING:
    from otel_agent_telemetry.operations.deliver import DeliveryReport


def sync(
    context: typer.Context,
    timeout: Annotated[float, typer.Option(min=0, max=86_400, help="Seconds to wait at most.")] = 30.0,
    as_json: AsJson = False,
) -> ExitCode:
    """Deliver what waits in the buffer now.

    While another process is delivering, waits until it has delivered what waits now.
    """
    from dataclasses import asdict

    from otel_agent_telemetry.operations.deliver import deliver_now, with_short_timeouts

    config = invocation_of(context).config
    # The timeout bounds single requests too: one attempt at a service that hangs must not outlast it.
    with progress_bar("delivering") as on_progress:
        report = deliver_now(with_short_timeouts(config, timeout_s=timeout), timeout_s=timeout, on_progress=on_progress)
    if as_json:
        print_json(asdict(report))
    else:
        print_line(_summary(report))
    if not report.done and report.problem:
        print_stderr(f"agent-telemetry: not delivered: {report.problem} - the records wait in {config.buffer_dir}")
        # The records are safe in the buffer, but the target has to be fixed.
        return ExitCode.STORE_UNAVAILABLE
    if not report.done:
        who = "the delivery by another process was" if report.by_another else "delivery was"
        print_stderr(
            f"agent-telemetry: {who} not complete after {timeout:g} s - nothing is lost; use a longer --timeout."
        )
        return ExitCode.TIMEOUT
    if report.rejected:
        print_stderr(
            f"agent-telemetry: refused records are in {config.buffer_dir / 'rejected'}; `doctor` shows the reasons."
        )
        return ExitCode.PROBLEM
    return ExitCode.OK


def _summary(report: "DeliveryReport") -> str:
    """Return the line that is printed about a delivery; parts that are zero by nature are left out."""
    by = " (by another process)" if report.by_another else ""
    parts = [f"delivered {report.delivered}{by}", f"rejected {report.rejected}"]
    parts += [f"{report.lines} events and steps"] if report.lines else []
    parts += [f"closed {report.closed_runs} runs of dead processes"] if report.closed_runs else []
    parts += [f"waiting {format_size(report.waiting_bytes)}"]
    target = f" - target {printable(report.target)}" if report.target else ""
    return ", ".join(parts) + target
