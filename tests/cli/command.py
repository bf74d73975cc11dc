"""The command as a real process, and what it printed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

from on_disk import ROOT, child_environment

from otel_agent_telemetry import TelemetryClient

COMMAND = (sys.executable, "-m", "otel_agent_telemetry.cli")

OPEN_A_RUN = """
import sys
from otel_agent_telemetry import TelemetryClient, TelemetryConfig
client = TelemetryClient(TelemetryConfig(base_dir=sys.argv[1], discover_service=False))
print(client.start_run("agent", "job", run_id=sys.argv[2]), flush=True)
sys.stdin.readline()
"""
"""A process that begins a run, says so and waits."""


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


def agent_telemetry(config, *arguments, env=None, within_s=60):
    """Run `agent-telemetry --base-dir … arguments` to its end."""
    done = subprocess.run(
        [*COMMAND, "--base-dir", str(config.base_dir), *map(str, arguments)],
        cwd=ROOT,
        env=child_environment(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return Said(done.returncode, done.stdout, done.stderr)


def start_command(config, *arguments, env=None):
    """The same, still running, its pipes open."""
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
    """Finished runs `run-0` … with an event each, delivered."""
    client = TelemetryClient(config)
    for number in range(count):
        run_id = client.start_run(f"agent-{number % 2}", "job", run_id=f"run-{number}", items_discovered=4)
        client.log_event(run_id, "checkpoint", {"n": number})
        client.end_run(run_id, "failed" if number == 1 else "success", items_succeeded=number)
    assert client.flush()
    client.close()
