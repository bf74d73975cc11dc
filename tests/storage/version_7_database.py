"""Databases of schema version 7, as they were found in the world: complete, worn, or odd."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from otel_agent_telemetry.storage.version_7 import COLUMNS_8

NEW_IN_8 = ("trace_id", "span_id", "service_name")
COLUMNS_7 = tuple(name for name in COLUMNS_8 if name not in NEW_IN_8)
_INTEGERS = {
    *("schema_version", "items_discovered", "items_succeeded", "items_failed", "items_skipped"),
    *("duration_ms", "api_posted", "api_retry_count"),
}
INDEXED = (
    *("agent_name", "status", "job_type", "created_at", "start_time", "run_id", "product", "platform"),
    *("website", "insight_id", "git_repo", "git_commit_hash", "parent_run_id", "environment"),
)


def row_7(number, **more):
    return {
        "event_id": f"10000000-0000-4000-8000-{number:012x}",
        "run_id": f"20251210T120530Z-agent-{number:08x}",
        "schema_version": 7,
        "created_at": "2025-12-10T12:05:30.123456+00:00",
        "updated_at": "2025-12-10T12:05:31.123456+00:00",
        "start_time": "2025-12-10T12:05:30Z",
        "agent_name": "agent",
        "job_type": "job",
        "status": "success",
        "items_discovered": number,
        "duration_ms": None,
        **more,
    }


def make_version_7(
    path,
    rows,
    *,
    missing=(),
    extra=(),
    key="id INTEGER PRIMARY KEY AUTOINCREMENT",
    indexed=INDEXED,
    script="",
):
    """Write a database file of version 7 with these rows; `extra` are columns that we do not know."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [name for name in COLUMNS_7 if name not in missing]
    kinds = [f"{name} {'INTEGER DEFAULT 0' if name in _INTEGERS else 'TEXT'}" for name in names]
    if key.startswith("run_id"):
        kinds = [kind for kind in kinds if not kind.startswith("run_id ")]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE schema_migrations (version INTEGER PRIMARY KEY, applied_at TEXT)")
        connection.execute("INSERT INTO schema_migrations VALUES (7, '2025-12-01')")
        connection.execute(f"CREATE TABLE agent_runs ({', '.join([key, *kinds, *(f'{name} TEXT' for name in extra)])})")
        for name in indexed:
            if name not in missing:
                connection.execute(f"CREATE INDEX idx_agent_runs_{name} ON agent_runs({name})")
        connection.executescript(script)
        for row in rows:
            kept = {name: value for name, value in row.items() if name in names or name in extra}
            values = f"({', '.join(kept)}) VALUES ({', '.join('?' * len(kept))})" if kept else "DEFAULT VALUES"
            connection.execute(f"INSERT INTO agent_runs {values}", tuple(kept.values()))
    return path


def dump(path):
    """Everything in a database, as text."""
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())
