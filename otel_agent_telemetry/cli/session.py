"""What every command needs: the configuration, the first sync of reads, and what they say of it."""

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from otel_agent_telemetry.cli.output import remark
from otel_agent_telemetry.config import TelemetryConfig

if TYPE_CHECKING:
    from otel_agent_telemetry.operations.run_reader import RunSource

_log = logging.getLogger(__name__)
_SYNC_S = 2.0
_PATIENCE_S = 0.5


@dataclass(frozen=True, slots=True)
class Session:
    """One call of the command."""

    config: TelemetryConfig

    @property
    def source(self) -> "RunSource":
        """Where runs are read: the service that they go to, else the local database."""
        from otel_agent_telemetry.operations.run_reader import source_of

        return source_of(self.config)


def session_of(context: typer.Context) -> Session:
    """The session that the global options made."""
    session = context.find_object(Session)
    assert session is not None
    return session


def freshen(session: Session) -> None:
    """Before a read: deliver what waits if nobody else does, for two seconds at most. Never fails.

    So a run whose process was killed a moment ago shows as failed.
    """
    from otel_agent_telemetry.operations.deliver_now import drain_now, impatient

    try:
        report = drain_now(impatient(session.config, patience_s=_PATIENCE_S), timeout_s=_SYNC_S, wait_for_others=False)
        _log.debug("first sync: %s", report)
    except Exception as problem:  # a read goes on without it
        _log.info("the first sync failed: %s", problem)


def say_where_runs_go(session: Session) -> None:
    """When runs go to a service, say that what a command of operators works on is the local database."""
    config, service = session.config, session.source.name
    if service:
        remark(f"Runs of {config.base_dir} go to {service}; what is shown here is the local database.")


def database_missing(session: Session) -> None:
    """Say that there is no database yet, and where it would be."""
    where = "the configured database" if session.config.database_url else session.config.db_path
    remark(f"No runs yet: {where} does not exist or is empty; the first run makes it.")


def now_ns() -> int:
    """The present."""
    return time.time_ns()
