"""Figures for an audit: runs and success by agent, runs that are open, and the space that everything takes.

Reads the database and the folders; changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from otel_agent_telemetry.buffer.layout import list_writers, unconfirmed_bytes, undelivered
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.rejected import count_rejected
from otel_agent_telemetry.delivery.stats import service_with_runs
from otel_agent_telemetry.journal import journal_files
from otel_agent_telemetry.operations.remote_runs import RemoteRuns
from otel_agent_telemetry.storage.agent_spending import spending_of_agents
from otel_agent_telemetry.storage.audit_queries import (
    RunFigures,
    amounts_of,
    database_bytes,
    first_and_last,
    longest_open,
    runs_by_day,
    status_counts,
    table_rows,
    top_agents,
)
from otel_agent_telemetry.storage.figure_queries import total
from otel_agent_telemetry.storage.pricing import use_own_prices
from otel_agent_telemetry.storage.store import reading_database

DAYS_SHOWN: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFigures:
    """Number and bytes of the files in each folder; `waiting_bytes` of the buffer are not delivered yet."""

    journal_files: int
    journal_bytes: int
    buffer_files: int
    buffer_bytes: int
    waiting_bytes: int
    rejected_records: int
    backup_files: int
    backup_bytes: int


def run_figures(
    config: TelemetryConfig, *, since: str | None, top: int, days: int | None, now_ns: int
) -> RunFigures | None:
    """Return the figures of the service that has the runs, else of the database; None when there is none yet.

    `since` is an ISO 8601 time, None for all runs; `top` is the number of agents and of open
    runs; `days` the number of days shown, None for the last 30. Reads all runs. Raises
    StorageError, ConfigurationError, the latter also for the file of `TELEMETRY_PRICES`.
    """
    use_own_prices(config.prices)
    # A period of N days touches N + 1 calendar days.
    shown = DAYS_SHOWN if days is None else days + 1
    if (url := service_with_runs(config)) is not None:
        with closing(RemoteRuns(url, config)) as remote:
            return remote.figures(since=since, top=top, days=shown)
    with reading_database(config) as connection:
        return None if connection is None else figures_of(connection, since=since, top=top, days=shown, now_ns=now_ns)


def figures_of(connection: Connection, *, since: str | None, top: int, days: int, now_ns: int) -> RunFigures:
    """Return the figures of a database, with at most `days` days and what has been spent by now. Reads all runs."""
    oldest, newest = first_and_last(connection, since=since)
    spent = spending_of_agents(connection, since=since, now_ns=now_ns)
    return RunFigures(
        agents=top_agents(connection, spent, since=since, limit=top),
        statuses=status_counts(connection, since=since),
        days=runs_by_day(connection, since=since, limit=days),
        open=longest_open(connection, since=since, limit=top),
        oldest=oldest,
        newest=newest,
        rows=table_rows(connection),
        bytes=database_bytes(connection),
        **amounts_of(total(spent.values())),
    )


def file_figures(config: TelemetryConfig) -> FileFigures:
    """Return the figures of journal, buffer and backups; a missing folder counts as empty. Raises OSError."""
    journal = _sizes(journal_files(config.ndjson_dir))
    segments = _sizes(path for writer in list_writers(config.buffer_dir) for _, path in writer.segments)
    # A `.partial` file is a backup in the making or one that failed.
    backups = _sizes(path for path in _files_of(config.backups_dir) if not path.name.endswith(".partial"))
    return FileFigures(
        journal_files=len(journal),
        journal_bytes=sum(journal),
        buffer_files=len(segments),
        buffer_bytes=sum(segments),
        waiting_bytes=unconfirmed_bytes(undelivered(config.buffer_dir)),
        rejected_records=count_rejected(config.buffer_dir),
        backup_files=len(backups),
        backup_bytes=sum(backups),
    )


def _files_of(folder: Path) -> list[Path]:
    """Return the files of a folder, without its folders; none when it is missing."""
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []


def _sizes(paths: Iterable[Path]) -> list[int]:
    """Return the bytes of each file; files that were removed meanwhile are left out."""
    sizes = []
    for path in paths:
        try:
            sizes.append(path.stat().st_size)
        # Delivery and retention remove files while this runs.
        except FileNotFoundError:
            continue
    return sizes
