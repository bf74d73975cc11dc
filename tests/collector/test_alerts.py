"""The alert rules: their form, promtool's cases of them, and a real Prometheus that sees a service die."""

from __future__ import annotations

import pytest
import yaml
from on_disk import eventually
from prometheus_server import CONFIG, program, promtool, running_prometheus

from otel_agent_telemetry.service.writer import MAX_WAITING_ITEMS
from tests.service.running import serve_process
from tests.service.writing_agents import quiet_port

FOLDER = CONFIG / "prometheus"
WITHIN_S = 30.0


def alerts():
    """Name → rule."""
    groups = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def cases():
    """(alert, whether it is expected to fire) of every question of alerts_test.yaml."""
    tests = yaml.safe_load((FOLDER / "alerts_test.yaml").read_text())["tests"]
    return [(case["alertname"], bool(case["exp_alerts"])) for test in tests for case in test["alert_rule_test"]]


def test_promtool_finds_nothing_wrong_with_rules_and_configuration():
    """Both with the checks that it has."""
    for arguments in (("rules", "--lint=all", "--lint-fatal", "alerts.yaml"), ("config", "prometheus.yaml")):
        said, content = promtool("check", *arguments)
        assert content, said


def test_alerts_fire_when_they_should_and_not_otherwise():
    """The cases of alerts_test.yaml, by promtool."""
    said, content = promtool("test", "rules", "alerts_test.yaml")
    assert content, said


def test_a_wrong_expectation_is_found(tmp_path):
    """The cases can fail: with another threshold those of its alert do."""
    rules = (FOLDER / "alerts.yaml").read_text()
    (tmp_path / "alerts.yaml").write_text(rules.replace("queue_capacity) > 0.8", "queue_capacity) > 0.95"))
    document = yaml.safe_load((FOLDER / "alerts_test.yaml").read_text())
    document["tests"] = [test for test in document["tests"] if "CollectorQueueNearlyFull" in str(test)]
    (tmp_path / "alerts_test.yaml").write_text(yaml.safe_dump(document))
    said, content = promtool("test", "rules", "alerts_test.yaml", cwd=tmp_path)
    assert not content
    assert "CollectorQueueNearlyFull" in said


def test_every_alert_has_a_case_in_which_it_fires():
    """And nothing else is asked for."""
    assert {name for name, fires in cases() if fires} == set(alerts())


@pytest.mark.parametrize("name", sorted(alerts()))
def test_an_alert_says_how_bad_what_and_what_to_do(name):
    """In sentences, and with a section in the runbook."""
    rule = alerts()[name]
    told = rule["annotations"]
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert set(told) == {"summary", "description", "action"}
    assert not told["summary"].endswith(".")
    assert told["description"].endswith(".")
    assert told["action"].endswith(".")
    assert f"\n### {name}\n" in (FOLDER / "README.md").read_text()


def test_the_runbook_has_no_section_for_an_alert_that_is_gone():
    """Sections and alerts are the same."""
    sections = [line[4:] for line in (FOLDER / "README.md").read_text().splitlines() if line.startswith("### ")]
    assert sorted(sections) == sorted(alerts())


def test_the_bound_of_the_write_queue_is_the_services():
    """The sentence and the threshold were written for this number."""
    rule = alerts()["AgentTelemetryWriteQueueGrowing"]
    assert f"{MAX_WAITING_ITEMS:,}" in rule["annotations"]["description"]
    assert int(rule["expr"].rpartition("> ")[2]) <= MAX_WAITING_ITEMS / 2


def test_a_service_that_dies_is_noticed(tmp_path):
    """Up, then killed: the alert is pending at the next scrapes, and the one on the database is silent."""
    program("prometheus")
    with serve_process(tmp_path / "base", {"TELEMETRY_DB_SYNCHRONOUS": "OFF"}) as service:
        targets = {"127.0.0.1:8765": service.url.removeprefix("http://")}
        with running_prometheus(tmp_path, targets, port=quiet_port()) as prometheus:
            assert eventually(lambda: prometheus.query('up{job="agent-telemetry"} == 1'), within_s=WITHIN_S)
            service.kill()
            state = eventually(lambda: states(prometheus).get("AgentTelemetryServiceDown"), within_s=WITHIN_S)
            assert state == "pending"
            assert "AgentTelemetryDatabaseDown" not in states(prometheus)


def states(prometheus):
    """Alert → pending or firing, of those that are either."""
    return {alert["labels"]["alertname"]: alert["state"] for alert in prometheus.get("/api/v1/alerts")["alerts"]}
