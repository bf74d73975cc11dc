"""`verify` where runs go to a service: it is asked, and what could not be compared is said."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from on_disk import Case
from running import running

from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.operations.deliver import deliver_now
from otel_agent_telemetry.operations.remote_runs import RemoteRuns
from otel_agent_telemetry.operations.verify import verify
from otel_agent_telemetry.recording.recorder import Recorder
from otel_agent_telemetry.storage.engine import make_engine, writing
from otel_agent_telemetry.storage.row_retention import delete_old
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


def test_events_and_steps_are_compared(case):
    """All of them, once the service has confirmed them."""
    _, host = case
    report = verify(host)
    assert report.lines_compared == RUNS + 1  # a tick each, and the association of a commit
    assert set(report.line_counts.values()) == {0}


SWAPPED = """
UPDATE run_events SET payload_json = CASE run_id WHEN 'run-3' THEN '{"n":4}' ELSE '{"n":3}' END
WHERE event_type = 'tick' AND run_id IN ('run-3', 'run-4')
"""
"""The same contents under each other's number, which a digest that forgets order, or cancels pairs, would not see."""
CHANGED = [
    ("DELETE FROM run_events WHERE event_type = 'tick' AND run_id IN ('run-3', 'run-4')", {"missing": 2}),
    ("DELETE FROM run_events", {"missing": RUNS + 1}),
    ("UPDATE run_events SET payload_json = '{\"n\":4}' WHERE run_id = 'run-3'", {"altered": 1}),
    ("UPDATE run_events SET event_type = 'tock' WHERE run_id = 'run-5'", {"altered": 1}),
    ("UPDATE run_events SET writer_seq = writer_seq + 1000 WHERE run_id = 'run-5'", {"missing": 1}),
    (SWAPPED, {"altered": 2}),
    ("UPDATE run_events SET event_id = 'another run'", {}),
]


def test_events_that_the_service_lacks_or_has_otherwise_are_found(case):
    """By writer and number, with the run; whose they are is the run's business."""
    service, host = case
    for statement, found in CHANGED:
        execute(service, "DELETE FROM run_events")
        for path in host.buffer_dir.glob("journal-*.cursor"):  # so all of it is delivered again
            path.unlink()
        assert deliver_now(host, timeout_s=30).done
        assert verify(host).ok
        execute(service, statement)
        report = verify(host)
        assert {name: number for name, number in report.line_counts.items() if number} == found
        assert report.ok == (not found)
        assert {name: len(lines) for name, lines in report.line_findings.items() if lines} == found
    result = agent_telemetry(host, "verify", env={"TELEMETRY_API_URL": host.api_url})
    assert (result.code, f"{RUNS + 1} compared" in result.out) == (0, True)
    execute(service, "DELETE FROM run_events")
    result = agent_telemetry(host, "verify", env={"TELEMETRY_API_URL": host.api_url})
    assert (result.code, f"{RUNS + 1} events and steps are in the journal, but not" in result.out) == (1, True)


def test_a_service_of_an_earlier_version_is_said_not_to_be_compared(case, monkeypatch):
    """It compares runs, and has no call for events and steps."""
    _, host = case
    monkeypatch.setattr(RemoteRuns, "line_digests", lambda *_, **__: None)
    report = verify(host)
    assert report.ok
    assert "events and steps" in report.not_compared


def test_events_that_retention_has_deleted_at_the_service_are_not_missing(case):
    """For their own age, while their runs stay; and those of a run that was deleted."""
    service, host = case
    store = service.app.state.backend._store
    (run,) = service.client.get("/api/v1/runs", params={"run_id": "run-3"}).json()
    assert service.client.delete(f"/api/v1/runs/{run['event_id']}").status_code == 200
    assert verify(host).ok
    deleted = delete_old(store, "2000-01-01T00:00:00.000000+00:00", parts_cutoff="2999-01-01T00:00:00.000000+00:00")
    assert deleted.events == RUNS
    report = verify(host)
    assert (report.ok, report.not_compared, report.lines_compared) == (True, "", 0)


def test_steps_are_compared_by_the_line_that_stands(case):
    """A step that has ended by its end, an open one by its start."""
    service, host = case
    agent = Case(host)
    with agent.tracer().start_as_current_span("root", attributes={"agent.run.agent_name": "stepping"}) as root:
        for number in range(40):
            with root_tracer(agent).start_as_current_span(f"step {number}"):
                pass
        with root_tracer(agent).start_as_current_span("open"):
            assert Recorder.shared(host).flush(30)
            report = verify(host)
            assert (report.ok, report.lines_compared) == (True, RUNS + 1 + 41)
            root.add_event("between")
    agent.close()
    assert deliver_now(host, timeout_s=30).done
    report = verify(host)
    assert (report.ok, report.lines_compared) == (True, RUNS + 2 + 41)
    execute(service, "UPDATE run_spans SET attributes_json = '{\"a\":1}' WHERE name = 'step 7'")
    execute(service, "DELETE FROM run_spans WHERE name = 'step 9'")
    assert verify(host).line_counts == {"missing": 1, "altered": 1, "refused": 0}


def test_lines_behind_the_cursor_are_not_missing(case):
    """What waits is compared another time; a step that has ended since then is there by its end."""
    _, host = case
    agent = Case(host)
    with agent.tracer().start_as_current_span("root", attributes={"agent.run.agent_name": "waiting"}):
        step = root_tracer(agent).start_span("step")
        assert Recorder.shared(host).flush(30)
        (cursor,) = host.buffer_dir.glob("journal-*.cursor")
        before = cursor.read_bytes()
        step.end()
    agent.close()
    assert deliver_now(host, timeout_s=30).done
    cursor.write_bytes(before)
    report = verify(host)
    assert (report.ok, report.not_compared, report.line_counts["missing"]) == (True, "", 0)


def root_tracer(agent):
    """The tracer of the provider that the agent has."""
    return agent.providers[-1].get_tracer("app")


@pytest.mark.parametrize(
    "ranges", ["", "w", "w 1", "w 1 x", "w 2 1", "w -1 1", "w 1 50001", "w 1 1 " * 51 + "w 1 1", f"w 1 {1 << 63}"]
)
def test_ranges_that_cannot_be_are_refused(sqlite_service, ranges):
    """So that one answer reads a bounded number of rows."""
    assert sqlite_service.client.get("/api/v1/digests/lines", params={"ranges": ranges}).status_code == 422


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
