"""All checks of `doctor`, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.errors import ConfigurationError, SchemaError, StorageError
from otel_agent_telemetry.operations.check_alerts import check_alerts
from otel_agent_telemetry.operations.check_buffer import check_buffer, check_journal
from otel_agent_telemetry.operations.check_database import check_database, check_service
from otel_agent_telemetry.operations.check_deliverers import check_deliverers, check_lines
from otel_agent_telemetry.operations.check_environment import (
    Finding,
    check_content,
    check_folders,
    check_opentelemetry,
    check_settings,
    error,
)
from otel_agent_telemetry.operations.check_logs import check_logs
from otel_agent_telemetry.operations.check_trust import check_trust
from otel_agent_telemetry.operations.check_variables import check_exporters, check_variables


def examine(
    config: TelemetryConfig, *, now_ns: int, environ: Mapping[str, str], without: Container[str] = ()
) -> Iterator[Finding]:
    """Yield every finding, from settings to journal. Changes nothing.

    `environ`: the variables of the process; `without`: names of checks to leave out. Blocks for a
    second on a locked database or a service that does not answer, for three on a deliverer that
    hangs, and for as long as it takes to read the database's pages. A check that fails is a finding too.
    """
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "settings": lambda: check_settings(config),
        "variables": lambda: check_variables(environ),
        "exporter": lambda: check_exporters(config, environ),
        "content": lambda: check_content(config),
        "opentelemetry": check_opentelemetry,
        "folders": lambda: check_folders(config),
        "trust": lambda: check_trust(config),
        "service": lambda: check_service(config),
        "database": lambda: check_database(config, now_ns=now_ns),
        "buffer": lambda: check_buffer(config),
        "journal": lambda: check_journal(config),
        "alerts": lambda: check_alerts(config),
        "delivery": lambda: check_lines(config),
        "deliverers": lambda: check_deliverers(config, now_ns=now_ns),
        "logs": lambda: check_logs(config),
    }
    for about, check in checks.items():
        if about not in without:
            yield from _run_check(about, check)


def _run_check(about: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yield the findings of a check, or that it could not be made."""
    try:
        yield from check()
    except SchemaError:  # of an older version or another program: `check_database` reports it once, with its own fix
        return
    except (OSError, StorageError, ConfigurationError) as problem:
        yield error(about, f"cannot be checked: {problem}", "Give this user access to it.")
