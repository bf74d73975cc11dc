"""Endpoints about the service itself: its health, its version, its figures."""

from __future__ import annotations

import time
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import anyio
from fastapi import APIRouter, Request, Response
from sqlalchemy import Connection

from otel_agent_telemetry.buffer.acknowledgements import unconfirmed_bytes, undelivered
from otel_agent_telemetry.buffer.health import read_health
from otel_agent_telemetry.clock import parse_iso
from otel_agent_telemetry.columns import SCHEMA_VERSION
from otel_agent_telemetry.errors import StorageError
from otel_agent_telemetry.service import schemas
from otel_agent_telemetry.service.backend import Backend
from otel_agent_telemetry.service.problems import problem_answer
from otel_agent_telemetry.service.prometheus import BufferFigures, NoStoredFigures, StoredFigures, exposition
from otel_agent_telemetry.service.responses import json_answer
from otel_agent_telemetry.service.routes_write import backend_of
from otel_agent_telemetry.storage.counts import count_kinds
from otel_agent_telemetry.storage.queries import oldest_open, run_stats

API_VERSION = "3.0.0"
_TEXT_FORMATS = ("text/plain", "application/openmetrics-text")
_PROMETHEUS = {"text/plain": {"schema": {"type": "string"}}}

router = APIRouter(tags=["service"])


@router.get("/health", summary="Whether runs can be kept", responses=schemas.answers(schemas.Health, 200, 503))
async def health(request: Request) -> Response:
    """200 when the store takes writes; found by writing, at most once a second. Needs no token."""
    backend = backend_of(request)
    problem = await backend.write_problem()
    if problem:
        return problem_answer(request.scope, 503, f"the store cannot be written: {problem}", {"Retry-After": "5"})
    return json_answer({"status": "ok", "version": API_VERSION, **_modes(backend)})


def _modes(backend: Backend) -> dict[str, Any]:
    sqlite = backend.settings.database_url is None
    return {
        "db_path": backend.database,
        "journal_mode": backend.settings.db_journal_mode if sqlite else None,
        "synchronous": backend.settings.db_synchronous if sqlite else None,
    }


@router.get("/version", summary="Which service this is", responses=schemas.answers(schemas.Version, 200))
async def service_version() -> Response:
    """The API's version, and the schema's. Needs no token."""
    return json_answer({"version": API_VERSION, "schema_version": SCHEMA_VERSION, "package": package_version()})


def package_version() -> str:
    """Of this package, "unknown" when it is not installed."""
    try:
        return version("otel-agent-telemetry")
    except PackageNotFoundError:
        return "unknown"


@router.get(
    "/metrics",
    summary="Figures of runs and service",
    responses={
        **schemas.answers(schemas.Metrics, 200, 429, 503),
        200: {"model": schemas.Metrics, "content": {**_PROMETHEUS}},
    },
)
async def metrics(request: Request) -> Response:
    """As JSON, or in Prometheus' text format when `Accept` asks for that. Costs the same at any number of runs."""
    accept = request.headers.get("accept", "")
    if "application/json" not in accept and any(kind in accept for kind in _TEXT_FORMATS):
        return await prometheus_metrics(request)
    backend = backend_of(request)
    now_ns = backend.clock.now_ns()
    stats = await backend.read(lambda connection: run_stats(connection, now_ns))
    return json_answer({**stats, "performance": _performance(request)})


def _performance(request: Request) -> dict[str, Any]:
    backend = backend_of(request)
    figures = backend.writer.figures
    return {
        "uptime_s": round(time.monotonic() - request.app.state.began, 3),
        "commits": figures.commits,
        "records_written": figures.items,
        "records_per_commit": round(figures.items / figures.commits, 2) if figures.commits else 0.0,
        "writes_failed": figures.failed,
        "writer_busy_s": round(figures.busy_s, 3),
        "records_waiting": backend.writer.waiting,
    }


@router.get(
    "/metrics/prometheus",
    summary="The same for Prometheus",
    response_class=Response,
    responses={**schemas.answers(None, 200, 429, 503), 200: {"content": _PROMETHEUS}},
)
async def prometheus_metrics(request: Request) -> Response:
    """Prometheus' text format, or OpenMetrics when `Accept` prefers it.

    While the database cannot be read the figures of this process are told all the same: that is when they are needed.
    """
    backend = backend_of(request)
    stored, buffered = await _stored_figures(backend), await anyio.to_thread.run_sync(_buffer_figures, backend)
    parts = (request.app.state.figures.registry, stored, buffered)
    body, content_type = exposition(request.headers.get("accept", ""), *parts)
    return Response(body, media_type=None, headers={"Content-Type": content_type})


async def _stored_figures(backend: Backend) -> StoredFigures | NoStoredFigures:
    now_ns = backend.clock.now_ns()
    try:
        return await backend.read(lambda connection: _read_figures(connection, now_ns))
    except StorageError:
        return NoStoredFigures()


def _read_figures(connection: Connection, now_ns: int) -> StoredFigures:
    counted: Counter[tuple[str, str]] = Counter()
    for (agent, _, status), number in count_kinds(connection).items():
        counted[agent, status] += number
    return StoredFigures(counted, run_stats(connection, now_ns)["recent_24h"], _unix_time(oldest_open(connection)))


def _unix_time(moment: str | None) -> float | None:
    """In seconds; None for none, and for what an older version let in that is no time."""
    try:
        return None if moment is None else parse_iso(moment) / 1e9
    except ValueError:
        return None


def _buffer_figures(backend: Backend) -> BufferFigures:
    folder = backend.settings.buffer_dir
    waiting_bytes = unconfirmed_bytes(undelivered(folder)) if folder.is_dir() else 0
    health = read_health(folder)
    return BufferFigures(waiting_bytes, health.rejected, health.closed_runs)
