"""Configurations and records that the measurements share."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from otel_agent_telemetry import TelemetryConfig
from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.run_id import new_event_id


def config_in(folder: Path) -> TelemetryConfig:
    """The defaults, in a folder of its own."""
    return TelemetryConfig(base_dir=folder, discover_service=False)


def process_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a measured process. Its modules are kept compiled, as those of an installed package."""
    ours = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **settings}
    ours.pop("PYTHONDONTWRITEBYTECODE", None)
    return ours


def some_records(count: int) -> list[RunRecord]:
    """Ended runs that nobody has seen."""
    now = iso_utc(time.time_ns())
    return [
        RunRecord(
            event_id=new_event_id(),
            run_id=f"run-{number}-{os.getpid()}-{time.time_ns()}",
            created_at=now,
            updated_at=now,
            start_time=now,
            end_time=now,
            agent_name=f"agent-{number % 7}",
            job_type="bench",
            status="success",
            metrics_json='{"tokens":17}',
        )
        for number in range(count)
    ]
