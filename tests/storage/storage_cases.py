"""Builders and helpers shared by the tests of `storage`."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.columns import COLUMNS
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.model import CommitLink, RunRecord
from otel_agent_telemetry.storage.engine import make_engine, reading, writing
from otel_agent_telemetry.storage.schema import ensure_schema

ROOT = Path(__file__).resolve().parents[2]
SECOND = 1_000_000_000
T0 = 1_760_000_000 * SECOND


def at(seconds):
    return iso_utc(T0 + int(seconds * SECOND))


def event_id(number):
    return f"00000000-0000-4000-8000-{number:012x}"


def run(number=1, *, status="running", updated=0.0, **more):
    values = {
        "event_id": event_id(number),
        "run_id": f"run-{number}",
        "created_at": at(number),
        "updated_at": at(number + updated),
        "start_time": at(number),
        "agent_name": "agent",
        "job_type": "job",
        "status": status,
        **more,
    }
    return RunRecord(**values)


def link(number=1, commit="abcdef1", *, told=0.0, **more):
    values = {"commit_source": "llm", "run_id": f"run-{number}", "associated_at": at(told), **more}
    return CommitLink(commit_hash=commit, **values)


def quick_config(folder, **more):
    values = {"db_synchronous": "OFF", "db_busy_timeout_ms": 5000, "db_retry_base_delay_s": 0.01, **more}
    return TelemetryConfig(base_dir=folder, **values)


class Database:
    """An open database of the current schema."""

    def __init__(self, folder, **settings):
        self.config = quick_config(folder, **settings)
        self.engine = make_engine(self.config)
        ensure_schema(self.engine, self.config)

    def reading(self):
        return reading(self.engine, "reading")

    def writing(self):
        return writing(self.engine, "writing to")

    def rows(self, sql, *parameters):
        return rows_of(self.config.db_path, sql, *parameters)

    def runs(self):
        """event_id → the stored row as a dictionary of columns."""
        names = ", ".join(COLUMNS)
        rows = self.rows(f"SELECT {names} FROM agent_runs")
        return {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in rows}

    def close(self):
        self.engine.dispose()


def rows_of(path, sql, *parameters):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql, parameters).fetchall()


def start_python(code, *arguments):
    """A real process of this interpreter with the package importable, its pipes open."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
