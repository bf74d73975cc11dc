"""Metrics of runs, through the SDK's own reader."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from on_disk import ROOT, child_environment

PROGRAM = textwrap.dedent(
    """
    import json, time
    from opentelemetry import metrics
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from otel_agent_telemetry import TelemetryClient

    reader = InMemoryMetricReader()
    {before}
    client = TelemetryClient()
    {after}
    with client.track_run("indexer", "index") as run:
        run.set_metrics(items_succeeded=3, items_failed=1)
    try:
        with client.track_run("indexer", "index"):
            raise ValueError("no")
    except ValueError:
        pass
    client.flush(20)
    deadline = time.monotonic() + 20
    while True:
        told = {{}}
        for resource in reader.get_metrics_data().resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        key = " ".join([metric.name, *map(str, sorted(point.attributes.values()))])
                        told[key] = getattr(point, "value", getattr(point, "count", None))
        # The host's figures are written at the end of a pass, after the confirmation that flush() waits for.
        if told.get("agent.telemetry.records delivered", 0) >= 2 or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    print(json.dumps(told))
    """
)
SET = "metrics.set_meter_provider(MeterProvider([reader]))"


@pytest.mark.parametrize("order", [{"before": SET, "after": ""}, {"before": "", "after": SET}], ids=["before", "after"])
def test_runs_and_our_own_work_are_measured(tmp_path, order):
    """Durations, counts by status, items, lines and records: whether the provider is set before us or after."""
    import json

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(**order)],
        cwd=ROOT,
        env={**child_environment(), "TELEMETRY_BASE_DIR": str(tmp_path / "base")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    told = json.loads(done.stdout)
    assert told == {
        "agent.run.duration index indexer success": 1,
        "agent.run.duration failed index indexer": 1,
        "agent.runs index indexer success": 1,
        "agent.runs failed index indexer": 1,
        "agent.run.items index indexer succeeded success": 3,
        "agent.run.items failed index indexer success": 1,
        "agent.telemetry.lines written": told["agent.telemetry.lines written"],
        "agent.telemetry.lines lost": 0,
        "agent.telemetry.records delivered": told["agent.telemetry.records delivered"],
        "agent.telemetry.records rejected": 0,
        "agent.telemetry.buffer.waiting": 0,
    }
    assert told["agent.telemetry.lines written"] >= 4
    assert told["agent.telemetry.records delivered"] >= 2
