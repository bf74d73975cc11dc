"""`agent-telemetry sync`."""

from typing import Annotated

import typer

from otel_agent_telemetry.cli.exit_codes import ExitCode
from otel_agent_telemetry.cli.output import print_json, progress, remark, say
from otel_agent_telemetry.cli.runs import AsJson
from otel_agent_telemetry.cli.session import session_of
from otel_agent_telemetry.cli.terminal_text import printable
from otel_agent_telemetry.cli.time_options import size_text


def sync(
    context: typer.Context,
    timeout: Annotated[float, typer.Option(min=0, max=86_400, help="Seconds to spend at most.")] = 30.0,
    as_json: AsJson = False,
) -> ExitCode:
    """Deliver now what waits in the buffer.

    When another process is delivering, waits until it has confirmed what waits now.
    """
    from dataclasses import asdict

    from otel_agent_telemetry.operations.deliver_now import drain_now, impatient

    config = session_of(context).config
    with progress("delivering") as on_progress:
        report = drain_now(impatient(config, patience_s=timeout), timeout_s=timeout, on_progress=on_progress)
    if as_json:
        print_json(asdict(report))
    else:
        by = " (by another process)" if report.by_another else ""
        said = [f"delivered {report.delivered}{by}", f"rejected {report.rejected}"]
        said += [f"runs of gone processes closed {report.closed_runs}"] if report.closed_runs else []
        said += [f"waiting {size_text(report.waiting_bytes)}"]
        target = f" - target {printable(report.target)}" if report.target else ""
        say(", ".join(said) + target)
    if not report.done and report.problem:
        remark(f"agent-telemetry: not delivered: {report.problem} - it waits in {config.buffer_dir}")
        return ExitCode.STORE_UNAVAILABLE
    if not report.done:
        who = "another process delivers and was" if report.by_another else "delivery was"
        remark(f"agent-telemetry: {who} not done after {timeout:g} s - nothing is lost; give more --timeout.")
        return ExitCode.TIMEOUT
    if report.rejected:
        remark(f"agent-telemetry: refused records lie in {config.buffer_dir / 'rejected'}; `doctor` says why.")
        return ExitCode.PROBLEM
    return ExitCode.OK
