"""Start a program whose run becomes a child run; the environment carries the parent's id.

python examples/subprocess_runs.py && agent-telemetry runs
"""

import os
import subprocess
import sys

from otel_agent_telemetry import TelemetryClient, run_environment

CHILD = """
from otel_agent_telemetry import TelemetryClient
with TelemetryClient().track_run("packer", "pack_one"):
    pass
"""

client = TelemetryClient()
with client.track_run("foreman", "pack_all", run_id="packing-day") as run:
    subprocess.run(  # noqa: S603 - a program of our own
        [sys.executable, "-c", CHILD], env={**os.environ, **run_environment()}, check=True
    )
    run.set_metrics(items_succeeded=1)
