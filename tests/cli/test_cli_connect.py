"""`agent-telemetry connect`: what it prints, and what it does to the files of a home of the test's own."""

from __future__ import annotations

import json
import socket

import pytest
from command import agent_telemetry

from otel_agent_telemetry.connect.agents import AGENTS

TOKEN = "tok-secret-1"


@pytest.fixture
def home(tmp_path):
    """The variables of a home folder, and of a service that is not there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {"HOME": str(tmp_path / "home"), "TELEMETRY_API_URL": f"http://127.0.0.1:{port}"}


@pytest.mark.parametrize("agent", [agent.name for agent in AGENTS])
def test_settings_are_printed_without_a_secret(config, home, agent):
    """The address, the token by reference, and what each signal gives."""
    result = agent_telemetry(config, "connect", agent, env={**home, "TELEMETRY_API_AUTH_TOKEN": TOKEN})
    assert result.code == 0
    assert home["TELEMETRY_API_URL"] in result.out
    assert 'export OTEL_EXPORTER_OTLP_HEADERS="Authorization=Bearer $TELEMETRY_API_AUTH_TOKEN"' in result.out
    assert TOKEN not in result.out + result.err
    assert "# traces: " in result.out


@pytest.mark.parametrize("agent", ["claude-code", "codex", "copilot"])
def test_a_token_is_printed_where_it_is_asked_for(config, home, agent):
    result = agent_telemetry(
        config, "connect", agent, "--print", "--with-token", env={**home, "TELEMETRY_API_AUTH_TOKEN": TOKEN}
    )
    assert f"Bearer {TOKEN}" in result.out
    assert "$TELEMETRY" not in result.out


def test_credentials_in_the_address_are_left_out(config, home):
    url = home["TELEMETRY_API_URL"].replace("//", "//me:hunter2hunter2@")
    result = agent_telemetry(config, "connect", "codex", env={**home, "TELEMETRY_API_URL": url})
    assert "hunter2" not in result.out + result.err
    assert "left out" in result.err


def test_write_and_undo(config, home, tmp_path):
    """The file is named, its old content kept; the probe names what is wrong, which is exit status 1."""
    file = tmp_path / "home" / ".claude" / "settings.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"model": "opus"} // mine\n')
    result = agent_telemetry(config, "connect", "claude-code", "--write", env=home)
    assert result.code == 1
    assert "logs: no answer" in result.out
    assert json.loads(file.read_text().partition(" //")[0])["env"]["OTEL_LOGS_EXPORTER"] == "otlp"
    (kept,) = (config.base_dir / "connections").glob("*.original")
    assert str(kept) in result.out
    assert kept.read_text() == '{"model": "opus"} // mine\n'
    assert "nothing to change" in agent_telemetry(config, "connect", "claude-code", "--write", env=home).out
    assert agent_telemetry(config, "connect", "claude-code", "--undo", env=home).code == 0
    assert file.read_text() == '{"model": "opus"} // mine\n'
    assert "nothing of ours" in agent_telemetry(config, "connect", "claude-code", "--undo", env=home).out


def test_the_agents_own_variables_say_where_its_file_is(config, home, tmp_path):
    """And one of the shell that wins over the file is named."""
    places = {"CODEX_HOME": tmp_path / "c", "CLAUDE_CONFIG_DIR": tmp_path / "d", "GEMINI_CLI_HOME": tmp_path / "g"}
    variables = {
        **home,
        **{name: str(path) for name, path in places.items()},
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x",
    }
    for agent, file in (
        ("codex", "c/config.toml"), ("claude-code", "d/settings.json"), ("gemini-cli", "g/.gemini/settings.json")
    ):  # fmt: skip
        result = agent_telemetry(config, "connect", agent, env=variables)
        assert f"# {tmp_path / file}\n" in result.out
        assert ("OTEL_EXPORTER_OTLP_ENDPOINT is set in this shell" in result.err) == (agent == "gemini-cli")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["copilot", "--write"], "has no settings file for telemetry"),
        (["copilot", "--undo"], "has no settings file for telemetry"),
        (["gemini-cli", "--write", "--with-token"], "takes a token from its environment alone"),
        (["cursor"], "is none of claude-code"),
        (["codex", "--write", "--undo"], "only one of"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_reason(config, home, line, message):
    result = agent_telemetry(config, "connect", *line, env={**home, "TELEMETRY_API_AUTH_TOKEN": TOKEN})
    assert result.code == 2
    assert message in " ".join(result.err.replace("│", " ").split())


def test_a_token_that_is_not_set_cannot_be_written(config, home):
    result = agent_telemetry(config, "connect", "codex", "--with-token", env=home)
    assert (result.code, "TELEMETRY_API_AUTH_TOKEN is not set" in result.err) == (2, True)


def test_settings_of_the_users_own_are_named(config, home, tmp_path):
    file = tmp_path / "home" / ".gemini" / "settings.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"telemetry": {"otlpEndpoint": "https://mine.example"}}')
    result = agent_telemetry(config, "connect", "gemini-cli", "--write", env=home)
    assert result.code == 2
    assert "telemetry.otlpEndpoint" in result.err
    assert "--replace" in result.err
    assert agent_telemetry(config, "connect", "gemini-cli", "--write", "--replace", env=home).code == 1
    agent_telemetry(config, "connect", "gemini-cli", "--undo", env=home)
    assert file.read_text() == '{"telemetry": {"otlpEndpoint": "https://mine.example"}}'
