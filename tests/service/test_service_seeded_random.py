"""Programs that seed `random` and export over OTLP: as many rows as runs, each with its own event and step."""

from __future__ import annotations

import pytest
from seeded_programs import RUNS, run_shape


@pytest.mark.parametrize("shape", RUNS)
def test_every_run_of_a_seeded_program_has_a_row(sqlite_service, tmp_path, shape):
    """In a loop, in processes, in a pool, and of three agents at the same time."""
    run_shape(tmp_path, shape, "otlp", sqlite_service.url)
    runs = sqlite_service.client.get("/api/v1/runs").json()
    assert len({run["run_id"] for run in runs}) == len({run["event_id"] for run in runs}) == RUNS[shape]
    steps = 0
    for run in runs:
        path = f"/api/v1/runs/{run['event_id']}"
        assert [event["event_type"] for event in sqlite_service.client.get(f"{path}/events").json()] == ["began"]
        below = sqlite_service.client.get(f"{path}/spans").json()
        assert len(below) == 1 or shape == "agents"  # at the same time, from one sender: no time tells them apart
        steps += len(below)
    assert steps == RUNS[shape]
