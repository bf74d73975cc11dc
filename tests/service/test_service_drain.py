"""The service delivers the buffers of its base directory, however their writers ended."""

from __future__ import annotations

import pytest
from on_disk import Process, eventually, journal_lines, nobody_delivers, rows_of
from running import serve_process
from writing_agents import expected, served

from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.buffer.health import read_health
from otel_agent_telemetry.buffer.layout import list_writers
from otel_agent_telemetry.operations.replay import replay
from otel_agent_telemetry.operations.verify import verify
from otel_agent_telemetry.testing import isolated_config
from otel_agent_telemetry.wire import encode_line
from tests.delivery.buffers import Writer

PATIENCE_S = 30
AGENT = """
import sys
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
name, count = sys.argv[1], int(sys.argv[2])
for number in range(count):
    client.end_run(client.start_run("agent", "job", run_id=f"{name}-{number}"))
client.start_run("agent", "job", run_id=f"{name}-open")
if len(sys.argv) > 3:
    print(client.flush(30), flush=True)
print("returned", flush=True)
sys.stdin.readline()
"""
"""Ends some runs, leaves one open, reports that and waits. With a third argument it delivers first."""


@pytest.fixture
def config(tmp_path):
    return isolated_config(tmp_path / "base", exit_timeout_s=1.0)


def agent_of(config, name, count, *more):
    env = {"TELEMETRY_BASE_DIR": str(config.base_dir), "TELEMETRY_SEGMENT_BYTES": str(config.segment_bytes)}
    return Process(AGENT, name, count, *more, env=env)


def left_by_a_killed_agent(config, name, count):
    """Return what a killed agent recorded and nothing delivered."""
    with agent_of(config, name, count) as agent:
        assert agent.line() == "returned"
        agent.kill()


def delivered_to(config, target):
    """Return whether the last pass, which reports its target, went there."""
    return read_health(config.buffer_dir).target == target


def is_drained(config):
    return list_writers(config.buffer_dir) == []


def test_what_killed_agents_left_is_delivered_and_their_open_runs_are_closed(config, tmp_path):
    """Three agents died before any delivery: every run is a row, those left open are failed, and replay agrees."""
    with nobody_delivers(config):
        for name in ("a", "b", "c"):
            left_by_a_killed_agent(config, name, 20)

    with serve_process(config.base_dir) as service:
        eventually(lambda: is_drained(config))
        rows = dict(served(service, "agent"))
        assert len(rows) == 63
        assert {run for run, status in rows.items() if status == "failed"} == {"a-open", "b-open", "c-open"}
        assert service.terminate() == 0

    assert_closings_are_journalled(config, {"a-open", "b-open", "c-open"})
    assert_accounted_for(config)
    assert_replay_agrees(config, tmp_path)


def assert_closings_are_journalled(config, run_ids):
    closed = [line for line in journal_lines(config, "run") if line.get("status") == "failed"]
    assert {line["run_id"] for line in closed} == run_ids
    assert all("is gone" in line["error_summary"] for line in closed)


def assert_accounted_for(config):
    report = verify(config)
    assert report.ok, report
    assert (report.waiting, report.journalled) == (0, report.stored)


def assert_replay_agrees(config, tmp_path):
    """A database made from the journal alone has the same rows, but for when a service got them."""
    anew = config.with_(db_path=tmp_path / "anew.sqlite")
    replay(anew)
    assert unreceived(anew) == unreceived(config)


def unreceived(config):
    return {run_id: {**row, "received_at": None} for run_id, row in rows_of(config).items()}


def test_refused_records_are_set_aside_and_do_not_block(config):
    """A line that is no run goes to rejected/ with the reason; the runs around it are rows."""
    with nobody_delivers(config):
        left_by_a_killed_agent(config, "before", 3)
        poisoned = Writer(config.buffer_dir, now_ns=1_760_000_000_000_000_000)
        poisoned.raw(encode_line("run", {"event_id": "no uuid", "run_id": "poison", "writer": poisoned.name, "seq": 1}))
        poisoned.die()
        left_by_a_killed_agent(config, "after", 3)

    with serve_process(config.base_dir) as service:
        eventually(lambda: is_drained(config))
        assert sorted(dict(served(service, "agent"))) == sorted(
            [f"{name}-{number}" for name in ("before", "after") for number in (0, 1, 2, "open")]
        )
    (rejected,) = (config.buffer_dir / "rejected").glob("*.jsonl")
    assert "poison" in rejected.read_text()
    assert "rejected_because" in rejected.read_text()
    assert read_health(config.buffer_dir).rejected == 1


def test_service_takes_over_from_a_delivering_agent_that_dies(config, tmp_path):
    """An agent holds the drain lock and delivers to the service over HTTP; killed, the service goes on for all."""
    with agent_of(config, "holder", 5, "deliver") as holder:
        assert (holder.line(), holder.line()) == ("True", "returned")
        eventually(lambda: delivered_to(config, str(config.db_path)))
        with serve_process(config.base_dir) as service:
            client = TelemetryClient(config)
            client.end_run(client.start_run("agent", "job", run_id="other-0"))
            assert client.flush(PATIENCE_S)
            eventually(lambda: delivered_to(config, service.url))

            holder.kill()

            eventually(lambda: ("holder-open", "failed") in served(service, "agent"))
            client.end_run(client.start_run("agent", "job", run_id="other-1"))
            assert client.flush(PATIENCE_S)
            assert served(service, "agent") == sorted(
                [*expected("holder", 5), *expected("other", 2), ("holder-open", "failed")]
            )
            client.close()
            assert service.terminate() == 0
    assert_accounted_for(config)
    assert_replay_agrees(config, tmp_path)


def test_service_killed_while_it_drains_begins_where_it_stopped(config, tmp_path):
    """A backlog of several segments, the service killed in the middle of it twice: each run is one row in the end."""
    with nobody_delivers(config):
        left_by_a_killed_agent(config.with_(segment_bytes=65_536), "big", 3000)
    for _ in range(2):
        with serve_process(config.base_dir) as service:
            eventually(lambda: served(service, "agent"))
            service.kill()

    with serve_process(config.base_dir) as service:
        eventually(lambda: is_drained(config))
        assert served(service, "agent") == sorted([*expected("big", 3000), ("big-open", "failed")])
        assert service.terminate() == 0
    assert_closings_are_journalled(config, {"big-open"})
    assert_accounted_for(config)
    assert_replay_agrees(config, tmp_path)
