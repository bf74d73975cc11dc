"""Endpoints about the service itself: health, version, metrics."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import anyio
from pydantic import BaseModel, Field
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from otel_agent_telemetry.buffer.health import read_health
from otel_agent_telemetry.buffer.layout import unconfirmed_bytes, undelivered
from otel_agent_telemetry.clock import parse_iso
from otel_agent_telemetry.columns import SCHEMA_VERSION
from otel_agent_telemetry.errors import StorageError
from otel_agent_telemetry.service import schemas
from otel_agent_telemetry.service.backend import Backend
from otel_agent_telemetry.service.connection_limits import REFUSABLE, REFUSALS
from otel_agent_telemetry.service.deliverer_metrics import MAX_DELIVERERS, DelivererMetrics, summary_of
from otel_agent_telemetry.service.openapi import OperationGroup, responses
from otel_agent_telemetry.service.prometheus import (
    BufferMetrics,
    DatabaseDownMetrics,
    StoredRunMetrics,
    exposition,
)
from otel_agent_telemetry.service.requests import backend_of, query_parameters
from otel_agent_telemetry.service.responses import error_response, json_response
from otel_agent_telemetry.service.routes_records import RECORDS_VERSION
from otel_agent_telemetry.storage.counts import count_kinds
from otel_agent_telemetry.storage.deliverers import Deliverer, list_deliverers
from otel_agent_telemetry.storage.run_logs import senders_not_kept
from otel_agent_telemetry.storage.run_stats import oldest_open, run_stats

API_VERSION = "3.0.0"
_TEXT_FORMATS = ("text/plain", "application/openmetrics-text")
_PROMETHEUS: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}

operations = OperationGroup("service")


@operations.add(
    "GET",
    "/health",
    summary="Whether runs can be stored",
    responses=responses(schemas.ServiceHealth, 200, 503),
)
async def health(request: Request) -> Response:
    """Respond 200 when the database takes writes; checked by writing, at most once a second. Needs no token."""
    backend = backend_of(request)
    problem = await backend.write_problem()
    if problem:
        return error_response(request.scope, 503, f"the store cannot be written: {problem}", {"Retry-After": "5"})
    return json_response({"status": "ok", "version": API_VERSION, **_modes(backend)})


def _modes(backend: Backend) -> dict[str, Any]:
    """Return the database's name and, for SQLite, its journal mode and synchronous setting."""
    sqlite = backend.settings.database_url is None
    return {
        "db_path": backend.database,
        "journal_mode": backend.settings.db_journal_mode if sqlite else None,
        "synchronous": backend.settings.db_synchronous if sqlite else None,
    }


@operations.add("GET", "/version", summary="The version of the service", responses=responses(schemas.Version, 200))
async def service_version(request: Request) -> Response:
    """Return the versions of the API, the schema, the package and `/api/v1/records`. Needs no token.

    `store` is the id of the database: a deliverer begins anew for another one. Null until it was opened.
    """
    return json_response(
        {
            "version": API_VERSION,
            "schema_version": SCHEMA_VERSION,
            "package": package_version(),
            "records": RECORDS_VERSION,
            "store": backend_of(request).store_id,
        }
    )


def package_version() -> str:
    """Return the version of this package, "unknown" when it is not installed."""
    try:
        return version("otel-agent-telemetry")
    except PackageNotFoundError:
        return "unknown"


class MetricsParameters(BaseModel):
    """The query string of `/metrics` in JSON."""

    plumbing: bool | None = Field(None, description="Count only plumbing (true), or none of it (false).")


@operations.add(
    "GET",
    "/metrics",
    summary="Metrics of runs and service",
    query=MetricsParameters,
    responses=responses(schemas.Metrics, 200, 422, 429, 503, content=_PROMETHEUS),
)
async def metrics(request: Request) -> Response:
    """Return metrics as JSON, or as Prometheus' text when `Accept` prefers it; same cost at any number of runs."""
    accept = request.headers.get("accept", "")
    # A browser names neither format and gets JSON; Prometheus names its text formats and no JSON.
    if "application/json" not in accept and any(kind in accept for kind in _TEXT_FORMATS):
        return await prometheus_metrics(request)
    backend = backend_of(request)
    now_ns = backend.clock.now_ns()
    plumbing = query_parameters(request, MetricsParameters).plumbing
    counts = await backend.read(lambda connection: run_stats(connection, now_ns, plumbing=plumbing))
    delivering = summary_of(await backend.read(list_deliverers), now_ns)
    refused = {limit: REFUSALS[limit] for limit in REFUSABLE}
    return json_response(
        {
            **counts,
            "performance": _performance(request),
            "deliverers": delivering,
            "refused": refused,
            "logs_not_kept": await backend.read(senders_not_kept),
        }
    )


def _performance(request: Request) -> dict[str, Any]:
    """Return the writer's counts since the start, times in seconds.

    They are of this process alone: each worker on PostgreSQL has its own.
    """
    backend = backend_of(request)
    stats = backend.writer.stats
    return {
        "uptime_s": round(time.monotonic() - request.app.state.started_at, 3),
        "commits": stats.commits,
        "records_written": stats.items,
        "records_per_commit": round(stats.items / stats.commits, 2) if stats.commits else 0.0,
        "writes_failed": stats.failed,
        "writer_busy_s": round(stats.busy_s, 3),
        "records_waiting": backend.writer.waiting,
    }


@operations.add(
    "GET",
    "/metrics/prometheus",
    summary="Metrics for Prometheus",
    responses=responses(None, 200, 429, 503, content=_PROMETHEUS),
)
async def prometheus_metrics(request: Request) -> Response:
    """Return Prometheus' text format, or OpenMetrics when `Accept` prefers it.

    While the database cannot be read, the metrics of this process are returned without those of the runs.
    """
    backend = backend_of(request)
    # The buffer is read in a thread: its folder may be on a slow disk, and the event loop serves everybody.
    stored, buffered = await _stored_run_metrics(backend), await anyio.to_thread.run_sync(_buffer_metrics, backend)
    delivering = await _deliverer_metrics(backend)
    parts = (request.app.state.metrics.registry, stored, buffered, delivering)
    body, content_type = exposition(request.headers.get("accept", ""), *parts)
    return Response(body, media_type=None, headers={"Content-Type": content_type})


async def _stored_run_metrics(backend: Backend) -> StoredRunMetrics | DatabaseDownMetrics:
    """Return the metrics of the stored runs, or that the database cannot be read. Never raises StorageError."""
    now_ns = backend.clock.now_ns()
    try:
        return await backend.read(lambda connection: _read_run_metrics(connection, now_ns))
    except StorageError:  # an outage is when the other metrics are needed most
        return DatabaseDownMetrics()


async def _deliverer_metrics(backend: Backend) -> DelivererMetrics:
    """Return the metrics of the hosts that deliver here; none while the database cannot be read."""
    found: list[Deliverer] = []
    with suppress(StorageError):
        found = await backend.read(partial(list_deliverers, limit=MAX_DELIVERERS))
    return DelivererMetrics(found, backend.clock.now_ns())


def _read_run_metrics(connection: Connection, now_ns: int) -> StoredRunMetrics:
    """Read the counts of runs, which are kept beside the rows. Raises StorageError."""
    counted: Counter[tuple[str, str]] = Counter()
    for (agent, _, status), number in count_kinds(connection).items():
        counted[agent, status] += number
    recent, oldest = run_stats(connection, now_ns)["recent_24h"], _unix_time(oldest_open(connection))
    return StoredRunMetrics(counted, recent, oldest, senders_not_kept(connection))


def _unix_time(moment: str | None) -> float | None:
    """Return a stored time in seconds; None for none, and for a text that an older version stored as a time."""
    try:
        return None if moment is None else parse_iso(moment) / 1e9
    except ValueError:
        return None


def _buffer_metrics(backend: Backend) -> BufferMetrics:
    """Read the buffer's folder. Blocks on a few small files."""
    folder = backend.settings.buffer_dir
    # There is no folder where the service alone writes, as on a collector host.
    waiting_bytes = unconfirmed_bytes(undelivered(folder)) if folder.is_dir() else 0
    health = read_health(folder)
    return BufferMetrics(waiting_bytes, health.rejected, health.closed_runs)
