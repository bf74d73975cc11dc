"""`runs`, `show`, `stats`, `export`, `audit` and `tail` where runs go to a service: they read what the service has."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path

import pytest
from running import running

from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.delivery.http_target import HttpTarget
from otel_agent_telemetry.delivery.outcome import Batch, Delivered
from otel_agent_telemetry.model import CommitLink
from otel_agent_telemetry.operations.follow import RunFilter
from otel_agent_telemetry.operations.follow_service import ServiceFollower
from otel_agent_telemetry.testing import isolated_config

sys.path.append(str(Path(__file__).parents[1] / "cli"))

from command import agent_telemetry, agent_telemetry_process

STATE = {
    "event_id": "00000000-0000-4000-8000-000000000001",
    "run_id": "followed",
    "start_time": "2026-01-31T12:00:00Z",
    "agent_name": "a",
    "job_type": "j",
}


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


def test_show_takes_the_beginning_of_an_id_that_the_service_has(sender, environment, config):
    """As in the local database: one run is shown, several are named."""
    record(sender)
    whole = agent_telemetry(config, "show", "outer-run", "--json", env=environment).json["run"]["event_id"]
    for beginning in (whole[:8], "outer"):
        assert "outer-run" in agent_telemetry(config, "show", beginning, env=environment).out
    several = agent_telemetry(config, "show", "run-", env=environment)
    assert (several.code, several.out) == (2, "")
    assert all(f"run-{number}" in several.err for number in range(3))
    assert "of more than 2 runs" in agent_telemetry(config, "runs", "--limit", 2, env=environment).err


def test_stats_are_the_services(sender, environment, config):
    """Totals, agents and statuses."""
    record(sender)
    stats = agent_telemetry(config, "stats", "--json", env=environment).json
    assert (stats["total_runs"], stats["agents"]) == (4, {"agent": 3, "outer": 1})
    assert "success  4" in agent_telemetry(config, "stats", env=environment).out


def test_export_reads_the_service(sender, environment, config):
    """All pages of it, with a filter and a limit, also the totals of trees."""
    record(sender)
    lines = agent_telemetry(config, "export", "--format", "jsonl", env=environment)
    assert {json.loads(line)["run_id"] for line in lines.out.splitlines()} == {"outer-run", "run-0", "run-1", "run-2"}
    newest = agent_telemetry(config, "export", "-f", "jsonl", "--agent", "agent", "-n", "1", "--tree", env=environment)
    (run,) = map(json.loads, newest.out.splitlines())
    assert (run["run_id"], run["tree"]["runs"]) == ("run-2", 1)
    assert "local database" not in newest.err


def test_audit_reads_the_service(sender, environment, config):
    """Its runs; the folders are those of this host."""
    record(sender)
    figures = agent_telemetry(config, "audit", "--days", "1", "--json", env=environment).json
    assert {agent["agent_name"]: agent["runs"] for agent in figures["runs"]["agents"]} == {"agent": 3, "outer": 1}
    assert figures["runs"]["statuses"] == {"success": 4}
    assert "runs      4" in agent_telemetry(config, "audit", env=environment).out


def test_tail_reads_the_service(sender, environment, config):
    """The newest runs; of one run its events too; `--here` this host's journal."""
    record(sender)
    lines = agent_telemetry(config, "tail", "-n", "2", env=environment).out.splitlines()
    assert [next(word for word in line.split() if word.startswith("run-")) for line in lines] == ["run-1", "run-2"]
    assert "step" in agent_telemetry(config, "tail", "--here", env=environment).out
    of_run = agent_telemetry(config, "tail", "--run", "outer-run", "--json", env=environment).out
    assert [json.loads(line)["record_type"] for line in of_run.splitlines()] == ["event", "run"]


def test_tail_follows_runs_that_begin_and_end(service, sender):
    """Each state once, whatever the number of looks."""
    with closing(ServiceFollower(service.url, sender, RunFilter())) as follower:
        assert follower.last(10) == []
        service.client.post("/api/v1/runs", json=STATE)
        assert [line["status"] for line in follower.read_new()] == ["running"]
        assert list(follower.read_new()) == []
        service.client.post("/api/v1/runs", json={**STATE, "status": "success", "updated_at": "2026-01-31T13:00:00Z"})
        assert [line["status"] for line in follower.read_new()] == ["success"]
        assert list(follower.read_new()) == []


@pytest.mark.parametrize("command", [("export", "-f", "csv"), ("audit",), ("tail",), ("runs",)])
def test_a_service_that_is_away_is_named_with_what_to_do(config, command):
    """By each command alike, in one line."""
    away = {"TELEMETRY_API_URL": "http://127.0.0.1:9"}
    result = agent_telemetry(config, *command, env=away)
    assert result.code == 4
    assert len(result.err.splitlines()) == 1
    assert "http://127.0.0.1:9" in result.err
    assert "TELEMETRY_API_URL" in result.err


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
