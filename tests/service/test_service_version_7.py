"""A service over an upgraded database of version 7: every run is reached by the `event_id` that it had."""

from __future__ import annotations

import pytest
from service_cases import ended, event_id

from otel_agent_telemetry.testing import isolated_config
from tests.storage.version_7_database import make_version_7, row_7

ODD_ID = "Run of 2025, no UUID"
IN_CAPITALS = event_id(0xABCDEF).upper()


@pytest.fixture
def upgraded(tmp_path, serving):
    settings = isolated_config(tmp_path / "seven", db_synchronous="OFF")
    rows = [row_7(1, event_id=IN_CAPITALS, status="running"), row_7(2, event_id=ODD_ID, status="running")]
    make_version_7(settings.db_path, rows)
    return serving(settings).client


@pytest.mark.parametrize("known_as", [IN_CAPITALS, IN_CAPITALS.lower(), "Run%20of%202025,%20no%20UUID"])
def test_a_run_is_read_changed_and_associated_by_its_event_id(upgraded, known_as):
    """As it was written then, and a UUID in lower case too."""
    path = f"/api/v1/runs/{known_as}"
    assert upgraded.get(path).json()["status"] == "running"
    assert (
        upgraded.patch(path, json={"status": "success", "end_time": "2025-12-10T12:10:00Z"}).json()["updated"] is True
    )
    link = {"commit_hash": "abcdef1", "commit_source": "ci"}
    assert upgraded.post(f"{path}/associate-commit", json=link).json()["status"] == "success"
    run = upgraded.get(path).json()
    assert (run["status"], run["git_commit_hash"]) == ("success", "abcdef1")
    assert upgraded.get(f"{path}/events").json() == []
    assert len(upgraded.get("/api/v1/runs").json()) == 2


def test_a_later_state_of_a_run_joins_its_row(upgraded):
    """In either spelling: two rows before, two rows after."""
    before = {run["event_id"]: run["id"] for run in upgraded.get("/api/v1/runs").json()}
    for spelled in (IN_CAPITALS, IN_CAPITALS.lower()):
        state = ended(1, event_id=spelled, run_id=row_7(1)["run_id"], updated_at="2026-01-01T00:00:00Z")
        assert upgraded.post("/api/v1/runs", json=state).status_code == 201
    after = upgraded.get("/api/v1/runs").json()
    assert {run["event_id"]: run["id"] for run in after} == before
    assert {run["status"] for run in after} == {"success", "running"}


@pytest.mark.parametrize("unknown", ["nothing", event_id(9), "x" * 2000, "%00"])
def test_an_event_id_that_no_run_has_is_not_found(upgraded, unknown):
    """Whatever it looks like."""
    assert upgraded.get(f"/api/v1/runs/{unknown}").status_code == 404
