"""What every command needs: the configuration, the first sync of reads, and what they say of it."""

import logging
import time
from dataclasses import dataclass

import typer

from otel_agent_telemetry.cli.output import remark
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.urls import without_credentials

_log = logging.getLogger(__name__)
_SYNC_S = 2.0
_PATIENCE_S = 0.5


@dataclass(frozen=True, slots=True)
class Session:
    """One call of the command."""

    config: TelemetryConfig


def session_of(context: typer.Context) -> Session:
    """The session that the global options made."""
    session = context.find_object(Session)
    assert session is not None
    return session


def freshen(session: Session) -> None:
    """Before a read: deliver what waits if nobody else does, for two seconds at most. Never fails.

    So a run whose process was killed a moment ago shows as failed. Not where runs go to a
    configured service: it would not change what is read here.
    """
    if session.config.api_url is not None:
        return
    from otel_agent_telemetry.inspection.drain_now import drain_now, impatient

    try:
        report = drain_now(impatient(session.config, patience_s=_PATIENCE_S), timeout_s=_SYNC_S, wait_for_others=False)
        _log.debug("first sync: %s", report)
    except Exception as problem:  # a read goes on without it
        _log.info("the first sync failed: %s", problem)


def say_where_runs_go(session: Session) -> None:
    """When runs go to a service, say that what is read here is the local database."""
    config = session.config
    url = config.api_url or _discovered(config)
    if url is not None:
        remark(f"Runs of {config.base_dir} go to {without_credentials(url)}; what is shown here is the local database.")


def _discovered(config: TelemetryConfig) -> str | None:
    """A service that took the last delivery and does not write this database."""
    from otel_agent_telemetry.buffer.health import read_health

    target = read_health(config.buffer_dir).target
    if not target.startswith(("http://", "https://")):
        return None
    from otel_agent_telemetry.storage.writer_lock import WriterLock

    holder = WriterLock(config.db_path).holder()
    return None if holder is not None and holder.url == target else target


def database_missing(session: Session) -> None:
    """Say that there is no database yet, and where it would be."""
    where = "the configured database" if session.config.database_url else session.config.db_path
    remark(f"No runs yet: {where} does not exist or is empty; the first run makes it.")


def now_ns() -> int:
    """The present."""
    return time.time_ns()
