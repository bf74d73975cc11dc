"""`verify` where runs go to a service: it is asked, and what could not be compared is said."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from running import running

from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.operations.verify import verify
from otel_agent_telemetry.storage.engine import make_engine, writing
from otel_agent_telemetry.testing import isolated_config

sys.path.append(str(Path(__file__).parents[1] / "cli"))

from command import agent_telemetry

RUNS = 12


@pytest.fixture(params=["sqlite", "postgresql"])
def case(request, tmp_path):
    """A service with the runs of a host, and that host's settings."""
    settings = request.getfixturevalue(f"{request.param}_settings")
    with running(settings) as service:
        host = isolated_config(tmp_path / "host", api_url=service.url, db_synchronous="OFF")
        client = TelemetryClient(host)
        for number in range(RUNS):
            with client.track_run("agent", "job", run_id=f"run-{number}", context_json='{"a": 1}') as run:
                run.log_event("tick", {"n": number})
                run.set_metrics(items_discovered=number, metrics_json={"gen_ai": {"input_tokens": number}})
        client.associate_commit("run-0", "abcdef1", "llm")
        assert client.flush(30)
        client.close()
        yield service, host


def execute(service, statement):
    engine = make_engine(service.settings)
    with writing(engine, "changing") as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


def found(report):
    return {name: number for name, number in report.counts.items() if number}


def test_a_service_with_everything_is_verified(case):
    """Each run is there with the content of the journal."""
    service, host = case
    report = verify(host)
    assert (report.ok, report.not_compared, report.compared_with) == (True, "", service.url)
    assert report.stored == report.journalled == RUNS
    assert found(report) == {}


def test_runs_that_the_service_lacks_are_found(case):
    """Ten of them, by the run."""
    service, host = case
    execute(service, "DELETE FROM agent_runs WHERE run_id NOT IN ('run-3', 'run-4')")
    report = verify(host)
    assert not report.ok
    assert found(report) == {"missing": RUNS - 2}
    assert {run.run_id for run in report.runs["missing"]} == {f"run-{n}" for n in range(RUNS)} - {"run-3", "run-4"}


def test_a_row_that_was_changed_at_the_service_is_found(case):
    """With its columns; JSON in another spelling is the same."""
    service, host = case
    execute(service, "UPDATE agent_runs SET status = 'failed' WHERE run_id = 'run-3'")
    execute(service, "UPDATE agent_runs SET context_json = replace(context_json, ':', ' : ') WHERE run_id = 'run-4'")
    report = verify(host)
    assert found(report) == {"altered": 1}
    assert list(report.columns.values()) == [["status"]]


def test_a_run_deleted_at_the_service_is_not_missing(case):
    """Though this host's journal has no mark of it."""
    service, host = case
    (run, *_) = service.client.get("/api/v1/runs", params={"run_id": "run-3"}).json()
    assert service.client.delete(f"/api/v1/runs/{run['event_id']}").status_code == 200
    report = verify(host)
    assert (report.ok, report.deleted, report.stored) == (True, 1, RUNS - 1)


def test_a_service_that_is_away_is_said_not_to_be_compared(case):
    """By the verdict and by the exit status, which is not that of success."""
    _, host = case
    away = host.with_(api_url="http://127.0.0.1:9", api_timeout_s=1.0)
    report = verify(away)
    assert report.ok
    assert "127.0.0.1:9" in report.not_compared
    result = agent_telemetry(away, "verify", env={"TELEMETRY_API_URL": away.api_url})
    assert result.code == 6
    assert "not compared" in result.out
    assert "Nothing is missing." not in result.out
