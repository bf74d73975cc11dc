"""The page of the service's own state, `/status`: what waits, what was refused, who delivers, and what to fix."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
from starlette.requests import Request
from starlette.responses import Response

from otel_agent_telemetry.buffer.health import read_health
from otel_agent_telemetry.buffer.layout import unconfirmed_bytes, undelivered
from otel_agent_telemetry.config import TelemetryConfig, process_environment
from otel_agent_telemetry.delivery.rejected import count_rejected, last_rejected
from otel_agent_telemetry.journal import journal_files
from otel_agent_telemetry.operations.check_environment import Finding
from otel_agent_telemetry.operations.doctor import examine
from otel_agent_telemetry.page.rendering import render
from otel_agent_telemetry.service.backend import Backend
from otel_agent_telemetry.service.requests import backend_of
from otel_agent_telemetry.service.routes_system import API_VERSION, package_version
from otel_agent_telemetry.storage.deliverers import list_deliverers
from otel_agent_telemetry.storage.run_logs import senders_not_kept
from otel_agent_telemetry.storage.store_facts import database_bytes

_NOT_HERE: Final = frozenset({"service", "database", "deliverers", "logs"})
"""Checks of `doctor` that ask this service about itself, read all of the database, or are a table of this page."""
_FINDINGS_KEPT_S: Final = 30.0
_REJECTED_SHOWN: Final = 10
_DELIVERERS_SHOWN: Final = 200
_WORST_FIRST: Final = ("error", "warn", "ok")


@dataclass(frozen=True, slots=True)
class HostState:
    """What lies on the host of the service, in bytes and records. `problem`: why it could not all be read."""

    buffer_bytes: int = 0
    journal_bytes: int = 0
    journal_days: int = 0
    rejected: int = 0
    last_rejected: Sequence[tuple[str, str, str]] = ()
    """Of the last refused records: run id, who refused it, and why."""
    last_problem: str = ""
    problem: str = ""


async def show_status(request: Request) -> Response:
    """Return the state of service and delivery. Blocks no other request: folders are read in a thread."""
    backend = backend_of(request)
    settings, now_ns = backend.settings, backend.clock.now_ns()
    deliverers = await backend.read(lambda connection: list_deliverers(connection, limit=_DELIVERERS_SHOWN))
    write_problem = await backend.write_problem()
    host = await anyio.to_thread.run_sync(_host_state, settings)
    values = {
        "version": package_version(),
        "api_version": API_VERSION,
        "uptime_ms": (time.monotonic() - request.app.state.started_at) * 1000,
        "write_problem": write_problem,
        "settings": settings,
        "database": backend.database,
        "database_bytes": await backend.read(database_bytes),
        "records_waiting": backend.writer.waiting,
        "host": host,
        "journal": await _journal(backend),
        "deliverers": [(one, one.is_silent(now_ns), one.lag_s(now_ns)) for one in deliverers],
        "logs_not_kept": await backend.read(senders_not_kept),
        "findings": await _findings(request, settings, now_ns),
    }
    return await render(request, "status.html", values)


async def _journal(backend: Backend) -> tuple[int, int] | None:
    """Return the size of the journal beside the service and what of it waits, in bytes; None if it cannot be read."""
    try:
        progress = await backend.journal_progress()
    except OSError:
        return None
    return progress.size, progress.waiting


def _host_state(settings: TelemetryConfig) -> HostState:
    """Read what lies on this host. Blocks on folders and small files."""
    try:
        folder = settings.buffer_dir
        days = journal_files(settings.ndjson_dir)
        return HostState(
            buffer_bytes=unconfirmed_bytes(undelivered(folder)) if folder.is_dir() else 0,
            journal_bytes=sum(map(_size, days)),
            journal_days=len(days),
            rejected=count_rejected(folder),
            last_rejected=[
                (str(one.get("run_id", "")), str(one.get("rejected_by", "")), str(one.get("rejected_because", "")))
                for one in reversed(last_rejected(folder, limit=_REJECTED_SHOWN))
            ],
            last_problem=read_health(folder).last_problem,
        )
    except OSError as problem:
        return HostState(problem=f"{problem.filename or settings.base_dir}: {problem.strerror or problem}")


def _size(path: Path) -> int:
    """Return a file's size in bytes; 0 for one that retention has just deleted."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


async def _findings(request: Request, settings: TelemetryConfig, now_ns: int) -> list[Finding]:
    """Return what `doctor` finds on this host, the worst first; looked for at most every 30 s."""
    kept: tuple[float, list[Finding]] | None = getattr(request.app.state, "page_findings", None)
    if kept is not None and time.monotonic() - kept[0] < _FINDINGS_KEPT_S:
        return kept[1]

    def look() -> list[Finding]:
        found = examine(settings, now_ns=now_ns, environ=process_environment(), without=_NOT_HERE)
        return sorted(found, key=lambda finding: _WORST_FIRST.index(finding.level))

    findings = await anyio.to_thread.run_sync(look)
    request.app.state.page_findings = (time.monotonic(), findings)
    return findings
