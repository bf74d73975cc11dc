"""Running `agent-telemetry` in this process or in one of its own, and what it printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass

from on_disk import ROOT, child_environment
from typer.testing import CliRunner

from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.cli.app import app

COMMAND = (sys.executable, "-m", "otel_agent_telemetry.cli")

OPEN_A_RUN = """
import sys
from otel_agent_telemetry import TelemetryClient, TelemetryConfig
client = TelemetryClient(TelemetryConfig(base_dir=sys.argv[1], discover_service=False))
print(client.start_run("agent", "job", run_id=sys.argv[2]), flush=True)
sys.stdin.readline()
"""
"""A program that starts a run, prints its id and waits."""


@dataclass(frozen=True)
class CommandResult:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


def agent_telemetry(config, *arguments, env=None):
    """Run `agent-telemetry --base-dir … arguments` in this process."""
    wanted = child_environment(env)
    changes = {name: None for name in os.environ if name not in wanted} | wanted
    line = ["--base-dir", str(config.base_dir), *map(str, arguments)]
    result = CliRunner().invoke(app, line, prog_name="agent-telemetry", env=changes, catch_exceptions=False)
    return CommandResult(result.exit_code, result.stdout, result.stderr)


def agent_telemetry_process(config, *arguments, env=None):
    """Run the same in a process of its own: for what only a process has, such as its encoding and its exit."""
    process = start_command(config, *arguments, env=env)
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    return CommandResult(process.returncode, out, err)


def start_command(config, *arguments, env=None):
    """Start the same in a process of its own and return it, its pipes open."""
    return subprocess.Popen(
        [*COMMAND, "--base-dir", str(config.base_dir), *map(str, arguments)],
        cwd=ROOT,
        env=child_environment(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def record_runs(config, count=3):
    """Record and deliver finished runs `run-0` … with an event each."""
    client = TelemetryClient(config)
    for number in range(count):
        run_id = client.start_run(f"agent-{number % 2}", "job", run_id=f"run-{number}", items_discovered=4)
        client.log_event(run_id, "checkpoint", {"n": number})
        client.end_run(run_id, "failed" if number == 1 else "success", items_succeeded=number)
    assert client.flush()
    client.close()
