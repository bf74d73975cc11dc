"""The checks of `doctor` on the database and on the target of delivery.

They never create or upgrade a database.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from sqlalchemy import Connection, Engine

from otel_agent_telemetry.config import DEFAULT_API_URL, TelemetryConfig
from otel_agent_telemetry.delivery.http_connection import is_loopback
from otel_agent_telemetry.delivery.local_service import local_service_url
from otel_agent_telemetry.delivery.suppress_instrumentation import suppress_instrumentation
from otel_agent_telemetry.errors import ConfigurationError, SchemaError, StorageError, StoreUnavailableError
from otel_agent_telemetry.operations.check_environment import Finding, error, ok, warn
from otel_agent_telemetry.storage.engine import database_name, make_engine, reading, sqlite_path, writing
from otel_agent_telemetry.storage.run_stats import run_stats
from otel_agent_telemetry.storage.schema import HEAD_REVISION, database_state
from otel_agent_telemetry.storage.writer_lock import WriterLock
from otel_agent_telemetry.urls import without_credentials

_BUSY_TIMEOUT_MS: Final = 1_000


def check_service(config: TelemetryConfig) -> Iterator[Finding]:
    """Yield which target runs go to now, and whether it answers. Blocks for up to about two seconds."""
    with suppress_instrumentation():
        if config.api_url is not None:
            yield _configured_service(config.api_url)
            yield from _open_service(config.api_url)
            return
        url = local_service_url(config)
        if url is not None:
            yield from _open_service(url)
    if url is None:
        yield ok("service", "none is configured and none was found; runs go to the database")
    elif url == DEFAULT_API_URL and not _writes_our_database(config, url):
        yield warn(
            "service",
            f"runs go to the service found at {url}, which may use another database than {config.db_path}",
            "Set TELEMETRY_API_URL if that is intended; otherwise start it with this base directory.",
        )
    else:
        yield ok("service", f"runs go to {without_credentials(url)}")


def _open_service(url: str) -> Iterator[Finding]:
    """Yield whether a service on the network lets anybody read and write."""
    from otel_agent_telemetry.delivery.http_target import is_open

    # On loopback no token is the default: the service checks the Host header instead.
    host = urlsplit(url).hostname or ""
    if not is_loopback(host) and is_open(url):
        yield warn(
            "service",
            f"{without_credentials(url)} asks for no token: whoever reaches it reads and writes the runs",
            "Set TELEMETRY_API_AUTH_TOKEN or TELEMETRY_API_TOKENS_FILE where it is served.",
        )


def _configured_service(url: str) -> Finding:
    """Return whether the service in TELEMETRY_API_URL answers as this service."""
    from otel_agent_telemetry.delivery.http_target import is_our_service

    shown = without_credentials(url)
    if is_our_service(url):
        return ok("service", f"runs go to {shown}, which answers")
    return error(
        "service",
        f"TELEMETRY_API_URL is {shown}, but no agent-telemetry service answers there; runs wait in the buffer",
        "Start the service, or correct the variable.",
    )


def _writes_our_database(config: TelemetryConfig, url: str) -> bool:
    """Return whether the service at `url` writes the configured database.

    Taken for granted with PostgreSQL, where any number of services may write.
    """
    if config.database_url is not None:
        return True
    holder = WriterLock(config.db_path).holder()
    return holder is not None and holder.url == url


def check_database(config: TelemetryConfig, *, now_ns: int) -> Iterator[Finding]:
    """Yield whether the database is readable, undamaged, of this schema, and can be written now.

    `quick_check` reads all pages of a SQLite file.
    """
    # A locked database is a finding; the configured timeout can be 30 s.
    quick = config.with_(db_busy_timeout_ms=min(config.db_busy_timeout_ms, _BUSY_TIMEOUT_MS))
    try:
        # Changing the journal mode would be a write.
        engine = make_engine(quick, set_journal_mode=False)
    except ConfigurationError as problem:
        yield error("database", str(problem), problem.hint or "Correct TELEMETRY_DATABASE_URL.")
        return
    path = sqlite_path(engine)
    if path is not None and not path.exists():
        yield ok("database", f"{path} does not exist yet; the first run creates it")
        return
    try:
        yield from _check(engine, quick, now_ns)
    except (SchemaError, StoreUnavailableError) as problem:
        yield error("database", str(problem), problem.hint)
    except StorageError as problem:
        yield error("database", str(problem), "Restore a backup, or rebuild it with `agent-telemetry replay`.")
    finally:
        engine.dispose()


def _check(engine: Engine, config: TelemetryConfig, now_ns: int) -> Iterator[Finding]:
    """Yield the findings of reading, then whether a write lock can be taken."""
    with reading(engine, "checking") as connection:
        # Collected before printing: a slow terminal must not keep the read lock.
        findings = list(_readable(connection, config, now_ns))
    yield from findings
    # Takes the write lock and gives it up again without writing.
    with writing(engine, "locking"):
        pass
    yield ok("database", "can be written now")


def _readable(connection: Connection, config: TelemetryConfig, now_ns: int) -> Iterator[Finding]:
    """Yield the schema and the number of runs, and for SQLite the state of the file.

    Raises the errors of `engine.reading`.
    """
    name, state = database_name(connection.engine), database_state(connection)
    if state == "empty":
        yield ok("database", f"{name} is empty; the first run creates its tables")
    elif state != "current":
        yield warn(
            "database",
            f"{name} has an older schema ({state})",
            "`agent-telemetry init-db` upgrades it, after a backup; so does the first delivery.",
        )
    else:
        runs = run_stats(connection, now_ns)["total_runs"]
        yield ok("database", f"{name}: schema revision {HEAD_REVISION}, {runs} runs")
    if connection.dialect.name == "sqlite":
        yield from _sqlite_findings(connection, config)


def _sqlite_findings(connection: Connection, config: TelemetryConfig) -> Iterator[Finding]:
    """Yield the journal mode, and the result of `quick_check`, which stops after three problems.

    Blocks for as long as reading the whole file takes.
    """
    mode = str(connection.exec_driver_sql("PRAGMA journal_mode").scalar()).upper()
    # The modes other than WAL belong to a connection, so only WAL is a property of the file.
    if (mode == "WAL") != (config.db_journal_mode == "WAL"):
        yield warn(
            "database",
            f"its journal mode is {mode}, but {config.db_journal_mode} is configured",
            "The next process that writes to it sets the configured mode.",
        )
    else:
        yield ok("database", f"journal mode {mode}")
    results = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA quick_check(3)")]
    if results == ["ok"]:
        yield ok("database", "its pages are valid (quick_check)")
    else:
        yield error(
            "database",
            f"it is damaged: {'; '.join(results)[:300]}",
            "Move it away, then restore a backup or rebuild it with `agent-telemetry replay`.",
        )
