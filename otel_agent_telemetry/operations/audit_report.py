"""What an auditor asks first: who ran how often and how well, what is open, and how much room it takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otel_agent_telemetry.buffer.acknowledgements import read_acknowledged, undelivered
from otel_agent_telemetry.buffer.layout import list_writers
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.rejected import count_rejected
from otel_agent_telemetry.journal import journal_files
from otel_agent_telemetry.operations.database import reading_database
from otel_agent_telemetry.storage.audit_queries import (
    AgentFigures,
    OpenRun,
    database_bytes,
    first_and_last,
    longest_open,
    runs_by_day,
    status_counts,
    table_rows,
    top_agents,
)

DAYS_SHOWN: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFigures:
    """Of the database, at one instant. `agents`, `statuses` and `days` since the instant asked for."""

    agents: list[AgentFigures]
    statuses: dict[str, int]
    days: dict[str, int]
    open: list[OpenRun]
    oldest: str | None
    newest: str | None
    rows: dict[str, int]
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFigures:
    """Of the folders: files and bytes; `waiting_bytes` of the buffer are not delivered yet."""

    journal_files: int
    journal_bytes: int
    buffer_files: int
    buffer_bytes: int
    waiting_bytes: int
    rejected_records: int
    backup_files: int
    backup_bytes: int


def figures_of_runs(config: TelemetryConfig, *, since: str | None, top: int, days: int | None) -> RunFigures | None:
    """What the database tells; None when there is none yet. Reads all runs. Raises as `reading_database` does."""
    with reading_database(config) as connection:
        if connection is None:
            return None
        oldest, newest = first_and_last(connection)
        return RunFigures(
            agents=top_agents(connection, since=since, limit=top),
            statuses=status_counts(connection, since=since),
            days=runs_by_day(connection, since=since, limit=DAYS_SHOWN if days is None else days + 1),
            open=longest_open(connection, limit=top),
            oldest=oldest,
            newest=newest,
            rows=table_rows(connection),
            bytes=database_bytes(connection),
        )


def figures_of_files(config: TelemetryConfig) -> FileFigures:
    """What the folders tell, missing ones as empty. Raises OSError."""
    journal = _sizes(journal_files(config.ndjson_dir))
    segments = _sizes(path for writer in list_writers(config.buffer_dir) for _, path in writer.segments)
    backups = _sizes(path for path in _files_of(config.backups_dir) if not path.name.endswith(".partial"))
    waiting = sum(max(end - read_acknowledged(path), 0) for path, end in undelivered(config.buffer_dir).items())
    return FileFigures(
        journal_files=len(journal),
        journal_bytes=sum(journal),
        buffer_files=len(segments),
        buffer_bytes=sum(segments),
        waiting_bytes=waiting,
        rejected_records=count_rejected(config.buffer_dir),
        backup_files=len(backups),
        backup_bytes=sum(backups),
    )


def _files_of(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []


def _sizes(paths: Iterable[Path]) -> list[int]:
    """Bytes of each file that is there still."""
    sizes = []
    for path in paths:
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:
            continue
    return sizes
