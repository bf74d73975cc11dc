"""Every example of seed 004 (`telemetry.capture`), with this package's import lines."""

from __future__ import annotations

import json
import re
from datetime import datetime

import pytest
from cli.command import agent_telemetry
from on_disk import rows_of

from otel_agent_telemetry import TelemetryCapture, TelemetryContext, capture_telemetry

ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00")
MEMBERS = ["timestamp", "skill", "status", "duration_ms", "caller", "inputs", "error_message", "metadata"]


def file_of(config):
    return json.loads((config.base_dir / "registry" / "telemetry.json").read_text("utf-8"))


def of_the_seed(entry):
    """The entry without what it has beyond the seed."""
    return {name: entry[name] for name in MEMBERS[1:]}


def test_capture_a_successful_execution_by_command(config):
    """`plugin.build success 320 CLI`."""
    said = agent_telemetry(config, "capture", "plugin.build", "success", "320", "CLI")
    assert said.code == 0
    assert of_the_seed(file_of(config)[0]) == {
        "skill": "plugin.build",
        "status": "success",
        "duration_ms": 320.0,
        "caller": "CLI",
        "inputs": {},
        "error_message": None,
        "metadata": {},
    }


def test_capture_with_inputs_by_command(config):
    """`agent.run success 1500 API '{…}'`."""
    inputs = '{"agent": "api.designer", "task": "design_api"}'
    assert agent_telemetry(config, "capture", "agent.run", "success", "1500", "API", inputs).code == 0
    assert file_of(config)[0]["inputs"] == {"agent": "api.designer", "task": "design_api"}


def test_capture_a_failure_by_command(config):
    """`workflow.compose failure 2800 CLI '{…}' "Validation failed at step 3"`."""
    arguments = ("workflow.compose", "failure", "2800", "CLI", '{"workflow": "api_first"}')
    assert agent_telemetry(config, "capture", *arguments, "Validation failed at step 3").code == 0
    (entry,) = file_of(config)
    assert (entry["status"], entry["error_message"]) == ("failure", "Validation failed at step 3")


def test_example_1_prints_the_entry_and_where_it_went(config):
    """The whole output of the seed's first example, the run's id beside it."""
    inputs = '{"plugin_path": "./plugin.yaml", "output_format": "tar.gz"}'
    said = agent_telemetry(config, "capture", "plugin.build", "success", "320", "CLI", inputs)
    printed, _, where = said.out.partition("\n\n")
    entry = json.loads(printed)
    assert list(entry) == [*MEMBERS, "run_id"]
    assert ISO.fullmatch(entry["timestamp"])
    assert of_the_seed(entry) == {
        "skill": "plugin.build",
        "status": "success",
        "duration_ms": 320.0,
        "caller": "CLI",
        "inputs": {"plugin_path": "./plugin.yaml", "output_format": "tar.gz"},
        "error_message": None,
        "metadata": {},
    }
    assert where == f"✓ Telemetry captured to {config.base_dir}/registry/telemetry.json\n"


def test_malformed_input_json_by_command(config):
    """The seed's message, and nothing captured."""
    said = agent_telemetry(config, "capture", "plugin.build", "success", "320", "CLI", "{invalid json}")
    assert said.code != 0
    message = "Error: Invalid JSON for inputs: Expecting property name enclosed in double quotes"
    assert said.err.startswith(message)
    assert not config.capture_file.exists()


def test_the_decorator(agent_telemetry_base):
    """`@capture_telemetry(skill_name="agent.run", caller="CLI", capture_inputs=True)`."""

    @capture_telemetry(skill_name="agent.run", caller="CLI", capture_inputs=True)
    def run_agent(agent_path: str, task_context: str | None = None):
        """Execute a Betty agent."""
        return {"status": "success", "result": f"{agent_path}: {task_context}"}

    result = run_agent("/agents/api.designer", "Design user authentication API")

    assert result == {"status": "success", "result": "/agents/api.designer: Design user authentication API"}
    (entry,) = json.loads((agent_telemetry_base / "registry" / "telemetry.json").read_text("utf-8"))
    assert (entry["skill"], entry["caller"], entry["status"]) == ("agent.run", "CLI", "success")
    assert entry["inputs"] == {
        "agent_path": "/agents/api.designer",
        "task_context": "Design user authentication API",
    }


@pytest.mark.parametrize("fails", [False, True])
def test_the_context_manager(telemetry, config, fails):
    """`with TelemetryContext(skill=…, caller=…) as ctx`, with `set_inputs`, `set_status` and `set_error`."""

    def create_plugin_archive(plugin_path):
        if fails:
            raise ValueError(f"no such plugin: {plugin_path}")
        return "archive"

    def build_plugin(plugin_path: str):
        with TelemetryContext(skill="plugin.build", caller="CLI", capture=telemetry) as ctx:
            ctx.set_inputs({"plugin_path": plugin_path})
            try:
                result = create_plugin_archive(plugin_path)
                ctx.set_status("success")
            except Exception as e:
                ctx.set_error(str(e))
                raise
            return result

    if fails:
        with pytest.raises(ValueError, match="no such plugin"):
            build_plugin("./p")
    else:
        assert build_plugin("./p") == "archive"
    (entry,) = file_of(config)
    assert (entry["skill"], entry["caller"], entry["inputs"]) == ("plugin.build", "CLI", {"plugin_path": "./p"})
    assert entry["status"] == ("error" if fails else "success")
    assert entry["error_message"] == ("no such plugin: ./p" if fails else None)


def test_the_programmatic_api(telemetry, config):
    """`telemetry.capture(…)` with inputs and metadata gives the entry, which is what the file has."""
    entry = telemetry.capture(
        skill="plugin.build",
        status="success",
        duration_ms=320.5,
        caller="CLI",
        inputs={"plugin_path": "./plugin.yaml", "output_format": "tar.gz"},
        metadata={"user": "developer@example.com", "environment": "production"},
    )
    assert datetime.fromisoformat(entry["timestamp"]).tzinfo is not None
    assert of_the_seed(entry) == {
        "skill": "plugin.build",
        "status": "success",
        "duration_ms": 320.5,
        "caller": "CLI",
        "inputs": {"plugin_path": "./plugin.yaml", "output_format": "tar.gz"},
        "error_message": None,
        "metadata": {"user": "developer@example.com", "environment": "production"},
    }
    assert file_of(config) == [entry]


def test_queries(telemetry):
    """By status, skill and caller, with a limit; example 3 reads these members."""
    for number in range(12):
        telemetry.capture("agent.run", "success", number, "API")
        telemetry.capture("plugin.build", "failure", number, "CLI", error_message=f"step {number}")

    failures = telemetry.query(status="failure", limit=10)
    agent_runs = telemetry.query(skill="agent.run", limit=50)
    cli_executions = telemetry.query(caller="CLI", limit=100)

    assert [entry["error_message"] for entry in failures] == [f"step {number}" for number in range(11, 1, -1)]
    assert len(agent_runs) == len(cli_executions) == 12
    shown = [f"{entry['skill']} - {entry['error_message']} - Duration: {entry['duration_ms']}ms" for entry in failures]
    assert shown[0] == "plugin.build - step 11 - Duration: 11.0ms"
    assert all(ISO.fullmatch(entry["timestamp"]) for entry in failures)


def test_an_invalid_status(telemetry, config):
    """The seed's message, word for word, and nothing captured."""
    with pytest.raises(ValueError, match="Invalid status") as raised:
        telemetry.capture(skill="test.skill", status="invalid_status", duration_ms=100, caller="CLI")
    expected = "Invalid status: invalid_status. Must be one of: success, failure, timeout, error, pending"
    assert str(raised.value) == expected
    assert not config.capture_file.exists()


def test_sensitive_data_is_excluded(telemetry, config):
    """`sanitize_keys=["password", "api_key", "secret_token"]`."""

    @capture_telemetry(
        skill_name="auth.login",
        capture_inputs=True,
        sanitize_keys=["password", "api_key", "secret_token"],
        capture=telemetry,
    )
    def login(username: str, password: str):
        return len(password)

    assert login("user", "hunter2") == 7
    assert file_of(config)[0]["inputs"] == {"username": "user", "password": "***REDACTED***"}
    assert "hunter2" not in config.capture_file.read_text("utf-8")


def test_a_custom_telemetry_file(config, tmp_path):
    """`TelemetryCapture(telemetry_file=…)`; its folder is made."""
    custom = tmp_path / "custom" / "path" / "telemetry.json"
    TelemetryCapture(telemetry_file=str(custom), config=config).capture("a", "success", 1, "CLI")
    assert len(json.loads(custom.read_text("utf-8"))) == 1


def test_the_file_by_environment(agent_telemetry_base, monkeypatch, tmp_path):
    """`BETTY_TELEMETRY_FILE`."""
    monkeypatch.setenv("BETTY_TELEMETRY_FILE", str(tmp_path / "betty.json"))
    TelemetryCapture().capture("a", "pending", 1, "CLI")
    assert json.loads((tmp_path / "betty.json").read_text("utf-8"))[0]["status"] == "pending"
    assert not (agent_telemetry_base / "registry").exists()


def test_each_entry_is_a_run_with_the_same_id(telemetry, config):
    """All five statuses, in the database too (contract, last section)."""
    entries = [
        telemetry.capture("skill", status, 5, "API", {"a": 1}, "why" if status != "success" else None)
        for status in ("success", "failure", "timeout", "error", "pending")
    ]
    assert telemetry.client.flush()
    rows = rows_of(config)
    assert set(rows) == {entry["run_id"] for entry in entries}
    assert [rows[entry["run_id"]]["status"] for entry in entries] == [
        *("success", "failed", "timeout", "failed", "partial")
    ]
    for entry in entries:
        row = rows[entry["run_id"]]
        assert (row["agent_name"], row["trigger_type"], row["duration_ms"]) == ("skill", "API", 5)
        assert row["error_summary"] == entry["error_message"]
        assert json.loads(row["context_json"])["inputs"] == {"a": 1}
