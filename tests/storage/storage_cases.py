"""Builders and helpers shared by the tests of `storage`."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import reduce
from pathlib import Path

from sqlalchemy import Engine, text
from sqlalchemy import event as happening
from sqlalchemy.pool import Pool

from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.columns import COLUMNS, COMMIT_COLUMNS
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.model import CommitLink, RunRecord, later_state
from otel_agent_telemetry.storage.engine import make_engine, reading, writing
from otel_agent_telemetry.storage.rows import record_of, row_of
from otel_agent_telemetry.storage.schema import ensure_schema
from otel_agent_telemetry.storage.tables import metadata
from tests.current_database import make_sqlite_file

ROOT = Path(__file__).resolve().parents[2]
SECOND = 1_000_000_000
T0 = 1_760_000_000 * SECOND


def at(seconds):
    return iso_utc(at_ns(seconds))


def at_ns(seconds):
    return T0 + int(seconds * SECOND)


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


def link(number=1, commit="abcdef1", *, associated=0.0, **more):
    values = {"commit_source": "llm", "run_id": f"run-{number}", "associated_at": at(associated), **more}
    return CommitLink(commit_hash=commit, **values)


def quick_config(folder, **more):
    values = {"db_synchronous": "OFF", "db_busy_timeout_ms": 5000, "db_retry_base_delay_s": 0.01, **more}
    return TelemetryConfig(base_dir=folder, **values)


class Database:
    """An open database of the current schema."""

    def __init__(self, folder, **settings):
        self.config = quick_config(folder, **settings)
        if not self.config.database_url:
            make_sqlite_file(self.config)
        self.engine = make_engine(self.config)
        ensure_schema(self.engine, self.config)

    def reading(self):
        return reading(self.engine, "reading")

    def writing(self):
        return writing(self.engine, "writing to")

    def rows(self, sql, **parameters):
        """What a statement returns, as plain tuples. What it changes is undone."""
        with self.reading() as connection:
            return [tuple(row) for row in connection.execute(text(sql), parameters)]

    def execute(self, sql, **parameters):
        """Change something past the package, as an administrator does."""
        with self.writing() as connection:
            connection.execute(text(sql), parameters)

    def runs(self):
        """event_id → the stored row as a dictionary of columns."""
        names = ", ".join(COLUMNS)
        rows = self.rows(f"SELECT {names} FROM agent_runs")
        return {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in rows}

    def empty(self):
        """Forget everything, which takes less time than another database."""
        tables = [table.name for table in metadata.sorted_tables]
        if self.engine.dialect.name == "postgresql":
            self.execute(f"TRUNCATE {', '.join(tables)}")
            return
        with self.writing() as connection:
            for name in tables:
                connection.execute(text(f"DELETE FROM {name}"))

    def plans(self, asked):
        """Lines of the plans of what was executed (see `statements`), of each that has a plan."""
        explain = "EXPLAIN" if self.engine.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
        with self.reading() as connection:
            return [
                row[-1]
                for statement, parameters in asked
                if statement.startswith(("SELECT", "UPDATE", "DELETE", "WITH"))
                for row in connection.exec_driver_sql(f"{explain} {statement}", parameters)
            ]

    def close(self):
        self.engine.dispose()


@contextmanager
def statements():
    """A list that takes the statements that this thread executes inside on any database, with their (first) parameters.

    Those that are executed on SQLite without SQLAlchemy have their parameters in them.
    """
    asked = []
    traced = []
    is_known = [False]

    own = threading.get_ident()

    def trace(connection, *_):
        # A service of an earlier test may still be ending in a thread of its own.
        if isinstance(connection, sqlite3.Connection) and threading.get_ident() == own:
            traced.append(connection)
            connection.set_trace_callback(lambda statement: is_known[0] or asked.append((statement, ())))

    def listen(_connection, _cursor, statement, parameters, _context, is_many):
        if threading.get_ident() != own:
            return
        is_known[0] = True
        asked.append((statement, parameters[0] if is_many else parameters))

    def forget(*_):
        is_known[0] = False

    events = (
        (Pool, "checkout", trace),
        (Engine, "before_cursor_execute", listen),
        (Engine, "after_cursor_execute", forget),
    )
    for target, name, function in events:
        happening.listen(target, name, function)
    try:
        yield asked
    finally:
        for target, name, function in events:
            happening.remove(target, name, function)
        for connection in traced:
            connection.set_trace_callback(None)


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


def expected_rows(records, links):
    """What must stand, in plain Python by `order_key`."""
    records = [record_of(row_of(record)) for record in records]
    stands = {}
    for event in {record.event_id for record in records}:
        mine = [record for record in records if record.event_id == event]
        row = asdict(reduce(later_state, mine))
        row["api_posted"] = max(record.api_posted for record in mine)
        row["api_posted_at"] = max(record.api_posted_at or "" for record in mine) or None
        row["api_retry_count"] = max(record.api_retry_count for record in mine)
        row.update(expected_commit([one for one in links if one.run_id == row["run_id"]]))
        stands[event] = row
    return stands


def expected_commit(links):
    if not links:
        return {}
    latest = max(
        links, key=lambda one: (one.associated_at, one.commit_hash, one.commit_source, one.commit_author or "")
    )
    values = (latest.commit_hash, latest.commit_source, latest.commit_author or None, latest.commit_timestamp)
    return dict(zip(COMMIT_COLUMNS, values, strict=True))


def observations(seed, count=240):
    """States and links of 30 runs, the same for the same seed: for several writers to write."""
    chance = random.Random(seed)
    records, links = [], []
    for _ in range(count):
        number = chance.randrange(1, 31)
        if chance.random() < 0.2:
            links.append(link(number, chance.choice(["aaaaaaa", "bbbbbbb"]), associated=chance.randrange(3)))
            continue
        status, updated = chance.choice([("running", 0), ("running", 1), ("success", 1), ("failed", 2)])
        more = {"agent_name": f"agent-{chance.randrange(3)}", "output_summary": chance.choice([None, "a", "Z", "é"])}
        posted = {"api_posted": 1, "api_posted_at": at(50)} if chance.random() < 0.2 else {}
        records.append(run(number, status=status, updated=updated, **more, **posted))
    return records, links


def write_shuffled(store, seed, order):
    """Write all observations of a seed in an order and a partition of this writer's own."""
    records, links = observations(seed)
    chance = random.Random(order)
    items = [*records, *links]
    chance.shuffle(items)
    while items:
        size = chance.randrange(1, 30)
        batch, items = items[:size], items[size:]
        store.write(
            [one for one in batch if isinstance(one, RunRecord)], [one for one in batch if isinstance(one, CommitLink)]
        )
