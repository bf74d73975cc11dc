"""Bringing a database to this version, here and in another process, and the runs that it holds then."""

from __future__ import annotations

from otel_agent_telemetry.storage.engine import make_engine, make_read_engine, reading
from otel_agent_telemetry.storage.queries import list_runs
from otel_agent_telemetry.storage.run_filters import RunQuery
from otel_agent_telemetry.storage.schema import ensure_schema

UPGRADE = """
import sys
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.storage.engine import make_engine
from otel_agent_telemetry.storage.schema import ensure_schema
config = TelemetryConfig(base_dir=sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(ensure_schema(make_engine(config), config).outcome, flush=True)
"""


def ensure(config):
    engine = make_engine(config)
    try:
        return ensure_schema(engine, config)
    finally:
        engine.dispose()


def records_of(config):
    engine = make_read_engine(config)
    try:
        with reading(engine, "reading") as connection:
            return list_runs(connection, RunQuery(limit=10_000))
    finally:
        engine.dispose()
