"""The object of a run that `--json` prints and the service answers."""

from __future__ import annotations

import orjson
from on_disk import record

from otel_agent_telemetry.operations.run_json import run_object
from otel_agent_telemetry.service.responses import RunEncoder
from otel_agent_telemetry.storage.queries import StoredRun

HOSTS = {"git.example": "gitlab"}


def test_the_command_and_the_service_show_a_run_alike():
    """Every column, JSON columns as values, text that is not JSON as text, and both URLs."""
    run = record(
        1,
        status="success",
        updated=1,
        metrics_json='{"a": [1, null]}',
        context_json="not JSON",
        git_repo="https://git.example/team/project.git",
        git_commit_hash="abcdef1234567",
        api_posted=1,
    )

    shown = run_object(run, git_hosts=HOSTS)
    answered = orjson.loads(RunEncoder(HOSTS).encode(StoredRun(7, run)))

    assert answered == {"id": 7, **shown}
    assert (shown["metrics_json"], shown["context_json"], shown["api_posted"]) == ({"a": [1, None]}, "not JSON", True)
    assert shown["commit_url"] == "https://git.example/team/project/-/commit/abcdef1234567"
