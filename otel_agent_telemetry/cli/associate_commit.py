"""`agent-telemetry associate-commit`.

Associates a commit with a run through `TelemetryClient`, then waits for the delivery to report
whether the run is stored.
"""

from typing import TYPE_CHECKING, Annotated, cast

import typer

from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.invocation import invocation_of, now_ns
from otel_agent_telemetry.cli.output import print_line, print_stderr, printable

if TYPE_CHECKING:
    from otel_agent_telemetry.argument_types import CommitSource
    from otel_agent_telemetry.config import TelemetryConfig


def associate_commit(
    context: typer.Context,
    run_id: Annotated[str, typer.Argument(help="The whole run id, not only its beginning.")],
    sha: Annotated[str, typer.Argument(help="Commit hash, 7 to 64 hex digits.")],
    source: Annotated[str, typer.Option(help="Who made the commit: manual, llm or ci. Required.")],
    author: Annotated[str | None, typer.Option(help="Name and email address of the author.")] = None,
    timestamp: Annotated[str | None, typer.Option(help="Time of the commit, ISO 8601.")] = None,
    timeout: Annotated[float, typer.Option(min=0, max=86_400, help="Seconds to wait for delivery.")] = 10.0,
) -> ExitCode:
    """Associate a commit with the run that made it.

    The association is written to the journal at once, whether or not the run has arrived.
    """
    from otel_agent_telemetry.client import TelemetryClient
    from otel_agent_telemetry.clock import iso_utc
    from otel_agent_telemetry.model import CommitLink

    # An invalid argument raises RecordError here, before anything is written.
    CommitLink(
        run_id=run_id,
        commit_hash=sha,
        commit_source=source,
        commit_author=author,
        commit_timestamp=timestamp,
        associated_at=iso_utc(0),
    )
    config = invocation_of(context).config
    began, client = iso_utc(now_ns()), TelemetryClient(config)
    try:
        kept, message = client.associate_commit(run_id, sha, cast("CommitSource", source), author, timestamp)
        if not kept or config.sdk_disabled:
            print_stderr(message if not kept else "agent-telemetry: OTEL_SDK_DISABLED is true: nothing was recorded.")
            return ExitCode.PROBLEM
        if not client.flush(timeout):
            print_stderr(f"agent-telemetry: kept, but not delivered within {timeout:g} s - `sync` reports why.")
            return ExitCode.TIMEOUT
    finally:
        client.close()
    return _report_outcome(config, run_id, sha, began)


def _report_outcome(config: "TelemetryConfig", run_id: str, sha: str, began: str) -> ExitCode:
    """Print whether the target refused the association, has no such run yet, or applied it."""
    from otel_agent_telemetry.delivery.rejected import last_rejected

    # A service refuses a bad association after it was accepted into the buffer.
    for record in last_rejected(config.buffer_dir, limit=100):
        associated_at = str(record.get("associated_at") or "")
        if associated_at >= began and record.get("run_id") == run_id and record.get("commit_hash") == sha:
            print_stderr(f"agent-telemetry: refused: {record.get('rejected_because')}")
            return ExitCode.NOT_FOUND
    if not _is_stored(config, run_id):
        print_stderr(
            f"agent-telemetry: no run {run_id!r} is stored here - "
            "the association is kept and applied when that run arrives."
        )
        return ExitCode.NOT_FOUND
    print_line(f"Commit {printable(sha)} associated with run {printable(run_id)}.")
    return ExitCode.OK


def _is_stored(config: "TelemetryConfig", run_id: str) -> bool:
    """Return whether the local database has the run; True without a check when a service has the runs."""
    from otel_agent_telemetry.buffer.health import read_health
    from otel_agent_telemetry.storage.queries import get_run
    from otel_agent_telemetry.storage.store import reading_database

    if config.api_url or read_health(config.buffer_dir).target.startswith("http"):
        return True
    with reading_database(config) as connection:
        return connection is not None and get_run(connection, run_id=run_id) is not None
