"""Databases with runs of known ages, and reading them without the package."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

from on_disk import Process, record
from sqlalchemy import create_engine, text

from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.storage.counts import check_counts
from otel_agent_telemetry.storage.engine import make_engine, make_read_engine, reading
from otel_agent_telemetry.storage.store import Store
from tests.current_database import make_sqlite_file

DAY_S = 86_400
ALL = ("agent_runs", "run_events", "run_spans", "run_rollups", "commits")


def ago(days):
    """Return the ISO 8601 time that is so many days ago."""
    return iso_utc(time.time_ns() - int(days * DAY_S * 1e9))


def aged(number, days, *, status="success", ended=None, **more):
    """Return a run created so many days ago; it ended at the same time unless `ended` is given."""
    end = None if status == "running" else ago(days if ended is None else ended)
    times = {"created_at": ago(days), "updated_at": end or ago(days), "start_time": ago(days), "end_time": end}
    return record(number, status=status, **{**times, **more})


def store(config, *records, links=()):
    """Write them as any writer does."""
    if not config.database_url:
        make_sqlite_file(config)
    opened = Store(config)
    opened.open()
    for start in range(0, len(records), 500):
        opened.write(records[start : start + 500])
    opened.write((), links)
    opened.close()


_BELONGINGS = [
    """INSERT INTO run_events (event_id, run_id, event_type, timestamp, trace_id, span_id, seq)
       VALUES (:event_id, 'r', 't', :at, :trace, '01', 0), (:event_id, 'r', 't', :at, :trace, '01', 1)""",
    """INSERT INTO run_spans (event_id, run_id, trace_id, span_id, name, kind, status, start_time)
       VALUES (:event_id, 'r', :trace, '02', 'n', 'k', 's', :at)""",
    "INSERT INTO run_rollups (event_id, usage_json) VALUES (:event_id, '{}')",
]


def belong(config, *event_ids, days=0.0):
    """Two events, a step and a roll-up for each of these runs; "" are those that found none."""
    engine = make_engine(config)
    with engine.begin() as connection:
        for number, event_id in enumerate(event_ids):
            values = {"event_id": event_id, "at": ago(days), "trace": f"{number:06d}{days}{event_id[-12:]}"}
            for statement in _BELONGINGS if event_id else _BELONGINGS[:2]:
                connection.execute(text(statement), values)
    engine.dispose()


def query(config, statement):
    """The rows of a statement, on either database."""
    engine = create_engine(make_engine(config).url)
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(text(statement))]
    engine.dispose()
    return rows


def run_ids(config):
    return sorted(run_id for (run_id,) in query(config, "SELECT run_id FROM agent_runs"))


def rows_by_table(config):
    return {name: query(config, f"SELECT count(*) FROM {name}")[0][0] for name in ALL}


def wrong_counts(config):
    """Kept counts that are not those of the runs."""
    engine = make_read_engine(config)
    with reading(engine, "checking") as connection:
        found = check_counts(connection)
    engine.dispose()
    return found


def integrity(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchone()[0]


def tear_a_commit(config):
    """A writer is killed when half of its changes are in the file: a hot journal is left."""
    with Process(_TEAR, config.db_path) as writer:
        assert writer.end()[0] == -9


_TEAR = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size=1")
connection.execute("PRAGMA cache_spill=1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE agent_runs SET error_details = hex(zeroblob(3000000)), run_id = 'torn'")
os.kill(os.getpid(), 9)
"""
