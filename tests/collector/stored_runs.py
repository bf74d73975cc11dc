"""What the database of a base directory has, past any service; and programs that fill it."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from on_disk import PATIENCE_S, child_environment
from sqlalchemy import select

from otel_agent_telemetry.storage.engine import make_read_engine, reading
from otel_agent_telemetry.storage.queries import list_runs
from otel_agent_telemetry.storage.run_filters import RunQuery
from otel_agent_telemetry.storage.tables import run_events, run_spans
from otel_agent_telemetry.testing import isolated_config

HERE = Path(__file__).parent
_BELOW = (run_spans, run_events)


def stored_runs(base):
    """event_id → every column of the run, as readers are told; empty while there is no database."""
    settings = isolated_config(base)
    if not settings.db_path.exists():
        return {}
    engine = make_read_engine(settings)
    with reading(engine, "reading") as connection:
        found = list_runs(connection, RunQuery(limit=1_000_000))
    engine.dispose()
    assert len({record.event_id for record in found}) == len(found)
    return {record.event_id: asdict(record) for record in found}


def stored_steps(base):
    """event_id → how many steps and how many events the database has of the run; "" are those without one."""
    engine = make_read_engine(isolated_config(base))
    with reading(engine, "reading") as connection:
        steps, events = (Counter(connection.execute(select(table.c.event_id)).scalars()) for table in _BELOW)
    engine.dispose()
    return {event_id: (steps[event_id], events[event_id]) for event_id in steps | events}


def run_program(name, folder, **env):
    """Run a program of this folder to its end, in a working directory of its own; fails the test when it fails."""
    done = subprocess.run(
        [sys.executable, HERE / name],
        cwd=folder,
        env=child_environment(env),
        capture_output=True,
        text=True,
        check=False,
        timeout=3 * PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
