"""`runs`, `show` and `stats` where runs go to a service: they read what the service has."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from running import running

from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.delivery.http_target import HttpTarget
from otel_agent_telemetry.delivery.outcome import Batch, Delivered
from otel_agent_telemetry.model import CommitLink
from otel_agent_telemetry.testing import isolated_config

sys.path.append(str(Path(__file__).parents[1] / "cli"))

from command import agent_telemetry, agent_telemetry_process


@pytest.fixture
def service(tmp_path):
    settings = isolated_config(
        tmp_path / "served", db_synchronous="OFF", api_auth_enabled=True, api_auth_token="long-secret"
    )
    with running(settings) as started:
        yield started


@pytest.fixture
def environment(service):
    """The environment of a machine whose runs go to the service."""
    return {"TELEMETRY_API_URL": service.url, "TELEMETRY_API_AUTH_TOKEN": "long-secret"}


@pytest.fixture
def sender(service, config):
    return config.with_(api_url=service.url, api_auth_token="long-secret")


def record(config, count=3):
    client = TelemetryClient(config)
    with client.track_run("outer", "job", run_id="outer-run") as outer:
        outer.log_event("step", {"n": 1})
    for number in range(count):
        with client.track_run("agent", "job", run_id=f"run-{number}", parent_run_id="outer-run"):
            pass
    assert client.flush(30.0)
    client.close()


def test_runs_lists_what_the_service_has(sender, environment, config):
    """From another base directory too: the local database is not asked."""
    record(sender)
    result = agent_telemetry(config, "runs", "--json", env=environment)
    assert result.code == 0, result.err
    assert {run["run_id"] for run in result.json} == {"outer-run", "run-0", "run-1", "run-2"}
    assert [
        run["run_id"]
        for run in agent_telemetry(config, "runs", "--parent", "outer-run", "-n", "2", "--json", env=environment).json
    ] == [
        "run-2",
        "run-1",
    ]
    assert "run-1" in agent_telemetry(config, "runs", "--run-id", "run-1", env=environment).out
    assert result.err == ""


def test_more_runs_than_a_page_are_read_page_by_page(service, environment, config):
    """The Link header is followed up to the limit asked for."""
    items = [
        {
            "event_id": f"00000000-0000-4000-8000-{number:012x}",
            "run_id": f"run-{number}",
            "start_time": "2026-01-31T12:00:00Z",
            "agent_name": "a b&c",
            "job_type": "j",
        }
        for number in range(2300)
    ]
    assert service.client.post("/api/v1/runs/batch", json=items).json()["inserted"] == 2300
    found = agent_telemetry(
        config, "runs", "--agent", "a b&c", "-n", "2200", "--json", "--no-sync", env=environment
    ).json
    assert len({run["run_id"] for run in found}) == 2200


def test_show_joins_the_service_and_the_local_journal(sender, environment, config):
    """The run and its children from the service, its events from this machine's journal."""
    record(sender)
    shown = agent_telemetry(config, "show", "outer-run", "--json", env=environment).json
    assert shown["run"]["run_id"] == "outer-run"
    assert [event["event_type"] for event in shown["events"]] == ["step"]
    assert [child["run_id"] for child in shown["children"]] == ["run-0", "run-1", "run-2"]
    by_event_id = agent_telemetry(config, "show", shown["run"]["event_id"], env=environment)
    assert "outer-run" in by_event_id.out
    assert agent_telemetry(config, "show", "nobody / ../x", env=environment).code == 3


def test_stats_are_the_services(sender, environment, config):
    """Totals, agents and statuses."""
    record(sender)
    stats = agent_telemetry(config, "stats", "--json", env=environment).json
    assert (stats["total_runs"], stats["agents"]) == (4, {"agent": 3, "outer": 1})
    assert "success  4" in agent_telemetry(config, "stats", env=environment).out


def test_a_wrong_token_is_one_clear_line(service, config):
    """Exit status USAGE, the variable to set, and not the token."""
    wrong = {"TELEMETRY_API_URL": service.url, "TELEMETRY_API_AUTH_TOKEN": "wrong-secret"}
    result = agent_telemetry(config, "runs", env=wrong)
    assert (result.code, len(result.err.splitlines())) == (2, 1)
    assert "TELEMETRY_API_AUTH_TOKEN" in result.err
    assert "wrong-secret" not in result.err


@pytest.mark.parametrize("token", ["pässwörd", "ключ"])
def test_a_token_in_any_script_is_the_same_at_both_sides(token, tmp_path, config):
    """Client, command and service take it from the same variable: runs arrive and are read."""
    settings = isolated_config(tmp_path / "guarded", db_synchronous="OFF", api_auth_enabled=True, api_auth_token=token)
    with running(settings) as guarded:
        record(config.with_(api_url=guarded.url, api_auth_token=token))
        environment = {"TELEMETRY_API_URL": guarded.url, "TELEMETRY_API_AUTH_TOKEN": token}
        result = agent_telemetry(config, "runs", "--json", env=environment)
        refused = agent_telemetry(config, "runs", env={**environment, "TELEMETRY_API_AUTH_TOKEN": token[1:]})
    assert (result.code, len(result.json)) == (0, 4)
    assert refused.code == 2


def test_a_token_that_no_header_can_carry_is_not_used_and_not_shown(service, environment, config):
    """A warning names the variable; then it is as if there were no token."""
    result = agent_telemetry_process(
        config, "runs", env={**environment, "TELEMETRY_API_AUTH_TOKEN": "long-secret\x01x"}
    )
    assert result.code == 2
    assert "TELEMETRY_API_AUTH_TOKEN: its value cannot be used" in result.err
    assert "long-secret" not in result.err + result.out


def test_a_service_with_a_token_of_stray_bytes_refuses_to_start_in_one_line(config):
    """Bytes that are not UTF-8 are a setting that cannot be used, not a fault of ours."""
    env = {"TELEMETRY_API_AUTH_ENABLED": "true", "TELEMETRY_API_AUTH_TOKEN": "long-secret\udcff"}
    result = agent_telemetry_process(config, "serve", "--port", "0", env=env)
    assert result.code == 2
    assert "TELEMETRY_API_AUTH_TOKEN" in result.err
    assert "internal error" not in result.err
    assert "long-secret" not in result.err


def link(run_id, commit="abcdef1"):
    return CommitLink(
        run_id=run_id, commit_hash=commit, commit_source="ci", associated_at="2026-01-31T12:00:00.000000+00:00"
    )


def test_a_commit_associated_before_its_run_shows_when_the_run_arrives(service, sender, environment, config):
    """Nothing is set aside for having come too early."""
    target = HttpTarget(service.url, sender)
    assert target.deliver(Batch.of((), (link("run-0"), link("run-1", "abcdef2")))) == Delivered()
    target.close()
    record(sender)
    commits = {
        run["run_id"]: run["git_commit_hash"] for run in agent_telemetry(config, "runs", "--json", env=environment).json
    }
    assert (commits["run-0"], commits["run-1"], commits["run-2"]) == ("abcdef1", "abcdef2", None)
