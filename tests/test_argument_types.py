"""The typed arguments of the client: complete, and held by a type checker."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import get_args, get_type_hints

from on_disk import ROOT

from otel_agent_telemetry.argument_types import EndSettings, RunSettings
from otel_agent_telemetry.columns import SETTABLE_COLUMNS
from otel_agent_telemetry.status import SPELLINGS, EndStatus

TYPED_CALLS = """
from otel_agent_telemetry import TelemetryClient

client = TelemetryClient()
run_id = client.start_run("agent", "job", "cron", run_id="mine", product="p", context_json={"shard": 3})
client.end_run(run_id, "completed", items_discovered=2, git_commit_source="ci", metrics_json={"files": 1})
client.associate_commit(run_id, "a1b2c3d4", "llm")
with client.track_run("agent", "job", items_discovered=1) as run:
    run.set_metrics(items_failed=1, status="partial")
"""
MISTYPED_CALLS = {
    'client.start_run("agent", "job", items_discoverd=1)': 'keyword argument "items_discoverd"',
    'client.track_run("agent", "job", items_discoverd=1)': 'keyword argument "items_discoverd"',
    'client.end_run("id", items_discoverd=1)': 'keyword argument "items_discoverd"',
    "run.set_metrics(items_discoverd=1)": 'keyword argument "items_discoverd"',
    'client.start_run("agent", "job", items_discovered="1")': '"items_discovered"',
    'client.start_run("agent", "job", "crom")': "incompatible type",
    'client.end_run("id", "sucess")': "incompatible type",
    'client.end_run("id", "running")': "incompatible type",
    'run.set_metrics(status="sucess")': "incompatible type",
    'client.associate_commit("id", "a1b2c3d4", "me")': "incompatible type",
}


def test_every_settable_column_is_a_typed_argument_of_the_client() -> None:
    """At the start, where three of them have parameters of their own, and at the end."""
    assert get_type_hints(RunSettings).keys() == SETTABLE_COLUMNS - {"agent_name", "job_type", "trigger_type"}
    assert get_type_hints(EndSettings).keys() == SETTABLE_COLUMNS


def test_every_spelling_of_a_status_is_typed() -> None:
    """What `end_run` accepts at run time passes a type checker, but for `running`."""
    assert {*get_args(EndStatus), "running"} == {*SPELLINGS}


def test_a_misspelt_column_status_or_source_fails_the_type_check(tmp_path) -> None:
    """In one run of mypy: the right calls pass, each wrong one is an error that names what is wrong."""
    program = tmp_path / "calls.py"
    program.write_text(TYPED_CALLS + "".join(f"    {call}\n" for call in MISTYPED_CALLS))
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--cache-dir", str(tmp_path / "cache")]
    child = subprocess.run(
        [*command, "--follow-imports=silent", str(program)],
        cwd=ROOT, env={"MYPYPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    first = len(TYPED_CALLS.splitlines()) + 1
    errors = dict(re.findall(r"calls\.py:(\d+): error: (.*)", child.stdout))
    assert errors.keys() == {str(first + place) for place in range(len(MISTYPED_CALLS))}, child.stdout + child.stderr
    for place, expected in enumerate(MISTYPED_CALLS.values()):
        assert expected in errors[str(first + place)]
