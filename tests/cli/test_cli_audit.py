"""`audit`: figures that a database works out, the same on both."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

from command import agent_telemetry
from on_disk import nobody_delivers
from stored import aged, ago, store

from otel_agent_telemetry import TelemetryClient

AMOUNTS = ("input_tokens", "output_tokens", "cost_usd", "unpriced_tokens")


def used(number, days, agent, *, tokens, cost=None, model="gpt-4o-mini"):
    """Return a run that used so many tokens of a model, half of them in, and reported its cost, or a priced call."""
    usage = {"input_tokens": tokens // 2, "output_tokens": tokens // 2, "model_calls": 1}
    reported = {} if cost is None else {"run_cost_nusd": int(cost * 1e9)}
    metrics = json.dumps({"gen_ai": {**usage, **reported, "by_model": {model: usage}}})
    return aged(number, days, agent_name=agent, model=model, metrics_json=metrics, cost_usd=cost, **usage)


def fill(config):
    """An agent with a hundred runs, one with three, one with an open one."""
    busy = [aged(n, 1, agent_name="busy", duration_ms=n * 10) for n in range(1, 101)]
    ends = ("success", "failed", "timeout")
    mixed = [aged(200 + n, 40, agent_name="mixed", status=word, duration_ms=n) for n, word in enumerate(ends)]
    store(config, *busy, *mixed, aged(300, 50, status="running", agent_name="open", run_id="stuck"))


def test_agents_come_with_their_rates_and_durations(either):
    """Nearest rank: the 50th and the 95th of a hundred; the 2nd and the 3rd of three; none where none has ended."""
    config, env = either
    fill(config)
    result = agent_telemetry(config, "audit", "--json", env=env)
    assert result.code == 0, result.err
    agents = {agent.pop("agent_name"): agent for agent in result.json["runs"]["agents"]}
    assert list(agents) == ["busy", "mixed", "open"]
    for agent in agents.values():
        assert [agent.pop(name) for name in AMOUNTS] == [0, 0, None, 0]
    assert agents["busy"] == {"runs": 100, "ended": 100, "succeeded": 100, "failed": 0, "median_ms": 500, "p95_ms": 950, "success_rate": 1.0}  # fmt: skip
    assert agents["mixed"] == {"runs": 3, "ended": 3, "succeeded": 1, "failed": 2, "median_ms": 1, "p95_ms": 2, "success_rate": 1 / 3}  # fmt: skip
    assert agents["open"] == {"runs": 1, "ended": 0, "succeeded": 0, "failed": 0, "median_ms": None, "p95_ms": None, "success_rate": None}  # fmt: skip


def test_days_statuses_open_runs_and_ends(either):
    """All runs; the open ones first that are open longest."""
    config, env = either
    fill(config)
    summary = agent_telemetry(config, "audit", "--json", env=env).json["runs"]
    assert summary["statuses"] == {"success": 101, "failed": 1, "running": 1, "timeout": 1}
    assert summary["days"] == {ago(1)[:10]: 100, ago(40)[:10]: 3, ago(50)[:10]: 1}
    assert [run["run_id"] for run in summary["open"]] == ["stuck"]
    assert (summary["oldest"][:10], summary["newest"][:10]) == (ago(50)[:10], ago(1)[:10])
    assert summary["rows"]["agent_runs"] == 104
    assert summary["bytes"] > 50_000


def test_days_and_top_narrow_it(either):
    """All figures of runs are of lately; the size of the database is its own."""
    config, env = either
    fill(config)
    summary = agent_telemetry(config, "audit", "--days", "7", "--top", "1", "--json", env=env).json["runs"]
    assert [agent["agent_name"] for agent in summary["agents"]] == ["busy"]
    assert summary["statuses"] == {"success": 100}
    assert len(summary["days"]) == 1
    assert summary["oldest"][:10] == summary["newest"][:10] == ago(1)[:10]
    assert summary["open"] == []
    assert summary["rows"]["agent_runs"] == 104
    assert agent_telemetry(config, "audit", "--top", "0", env=env).code == 2


def test_cost_and_tokens_of_agents_are_those_of_the_days(either):
    """Exact at both ends, also of a day whose hours are not kept any more; totals are of all agents, not of the top."""
    config, env = either
    reported = [used(n, days, "paid", tokens=1000, cost=0.5) for n, days in enumerate((0.1, 4.9, 5.1, 40))]
    store(config, *reported, used(9, 0.2, "free", tokens=500, model="nobody-prices-this"))
    lately = agent_telemetry(config, "audit", "--days", "5", "--top", "1", "--json", env=env).json["runs"]
    assert [[agent["agent_name"], *(agent[name] for name in AMOUNTS)] for agent in lately["agents"]] == [
        ["paid", 1000, 1000, 1.0, 0]
    ]
    assert [lately[name] for name in AMOUNTS] == [1250, 1250, 1.0, 500]
    whole = agent_telemetry(config, "audit", "--json", env=env).json["runs"]
    assert [whole[name] for name in AMOUNTS] == [2250, 2250, 2.0, 500]
    lines = agent_telemetry(config, "audit", env=env).out.splitlines()
    assert lines[2] == "cost      ≥ $2.00; 500 tokens have no price"
    assert next(line for line in lines if line.startswith("paid")).split()[-2:] == ["4,000", "$2.00"]


def test_the_words_are_safe_on_a_terminal(config):
    """Ids and names were written by anyone."""
    name = "<b>=1+1\x1b[2J\u202e"
    store(config, aged(1, 1, agent_name=name, status="running", run_id=f"{name}-id"))
    result = agent_telemetry(config, "audit")
    assert result.code == 0
    assert "\x1b" not in result.out
    assert "\u202e" not in result.out
    assert "<b>=1+1\\x1b[2J\\u202e-id" in result.out
    assert result.out.splitlines()[0].startswith("runs      1, from ")


def test_the_folders_are_measured(config):
    """Journal, buffer and what waits in it, backups, refused records."""
    empty = agent_telemetry(config, "audit", "--json")
    assert empty.json["runs"] is None
    assert set(empty.json["files"].values()) == {0}
    assert "No runs yet" in empty.err
    assert not config.base_dir.exists() or list(config.base_dir.iterdir()) == []
    store(config, aged(1, 1))
    agent_telemetry(config, "backup")
    with nobody_delivers(config):
        client = TelemetryClient(config)
        client.end_run(client.start_run("agent", "job"))
        client.close()
        rejected = config.buffer_dir / "rejected"
        rejected.mkdir()
        (rejected / "20260101.jsonl").write_bytes(b"{}\n{}\n")
        files = agent_telemetry(config, "audit", "--json").json["files"]
    assert (files["journal_files"], files["backup_files"], files["rejected_records"]) == (1, 1, 2)
    assert files["buffer_bytes"] >= files["waiting_bytes"] > 0


def test_databases_that_are_not_ours_stay_as_they_are(config):
    """Refused, unchanged."""
    config.db_path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(config.db_path)) as connection:
        connection.execute("CREATE TABLE theirs (a)")
        connection.commit()
    before = config.db_path.read_bytes()
    assert agent_telemetry(config, "audit").code == 4
    assert agent_telemetry(config, "export", "-f", "csv").code == 4
    assert config.db_path.read_bytes() == before
