"""`agent-telemetry associate-commit`."""

from typing import TYPE_CHECKING, Annotated

import typer

from otel_agent_telemetry.cli.exit_codes import ExitCode
from otel_agent_telemetry.cli.output import remark, say
from otel_agent_telemetry.cli.session import now_ns, session_of
from otel_agent_telemetry.cli.terminal_text import printable

if TYPE_CHECKING:
    from otel_agent_telemetry.config import TelemetryConfig


def associate_commit(
    context: typer.Context,
    run_id: Annotated[str, typer.Argument(help="The whole run id.")],
    sha: Annotated[str, typer.Argument(help="7 to 40 hex digits.")],
    source: Annotated[str, typer.Option(help="Who made the commit: manual, llm or ci.")],
    author: Annotated[str | None, typer.Option(help="Name and address of the author.")] = None,
    timestamp: Annotated[str | None, typer.Option(help="When it was committed, ISO 8601.")] = None,
    timeout: Annotated[float, typer.Option(min=0, max=86_400, help="Seconds to wait for delivery.")] = 10.0,
) -> ExitCode:
    """Tell which commit a run made.

    The association is kept at once, whether or not the run is known yet.
    """
    from otel_agent_telemetry.client import TelemetryClient
    from otel_agent_telemetry.clock import iso_utc
    from otel_agent_telemetry.model import CommitLink

    CommitLink(  # raises RecordError: a usage error, before anything is written
        run_id=run_id,
        commit_hash=sha,
        commit_source=source,
        commit_author=author,
        commit_timestamp=timestamp,
        associated_at=iso_utc(0),
    )
    config = session_of(context).config
    began, client = iso_utc(now_ns()), TelemetryClient(config)
    try:
        kept, message = client.associate_commit(run_id, sha, source, author, timestamp)
        if not kept or config.sdk_disabled:
            remark(message if not kept else "agent-telemetry: OTEL_SDK_DISABLED is true: nothing was recorded.")
            return ExitCode.PROBLEM
        if not client.flush(timeout):
            remark(f"agent-telemetry: kept, but not delivered within {timeout:g} s - `sync` says why.")
            return ExitCode.TIMEOUT
    finally:
        client.close()
    return _say_where_it_went(config, run_id, sha, began)


def _say_where_it_went(config: "TelemetryConfig", run_id: str, sha: str, began: str) -> ExitCode:
    from otel_agent_telemetry.delivery.rejected import last_rejected

    for record in last_rejected(config.buffer_dir, limit=100):
        told = str(record.get("associated_at") or "")
        if told >= began and record.get("run_id") == run_id and record.get("commit_hash") == sha:
            remark(f"agent-telemetry: refused: {record.get('rejected_because')}")
            return ExitCode.NOT_FOUND
    if not _is_known(config, run_id):
        remark(
            f"agent-telemetry: no run {run_id!r} is known here - "
            "the association is kept and shows as soon as that run arrives."
        )
        return ExitCode.NOT_FOUND
    say(f"Commit {printable(sha)} associated with run {printable(run_id)}.")
    return ExitCode.OK


def _is_known(config: "TelemetryConfig", run_id: str) -> bool:
    """Whether the local database has the run; taken for granted when a service has the runs."""
    from otel_agent_telemetry.buffer.health import read_health
    from otel_agent_telemetry.operations.database import reading_database
    from otel_agent_telemetry.storage.queries import get_run

    if config.api_url or read_health(config.buffer_dir).target.startswith("http"):
        return True
    with reading_database(config) as connection:
        return connection is not None and get_run(connection, run_id=run_id) is not None
