"""Record a run with events and item counts on this machine.

python examples/quickstart.py && agent-telemetry runs
"""

from otel_agent_telemetry import TelemetryClient

client = TelemetryClient()

with client.track_run("quickstart", "greet", input_summary="three names") as run:
    names = ["Ada", "Grace", "Barbara"]
    for position, name in enumerate(names, start=1):
        run.log_event("greeted", {"name": name, "position": position})
    run.set_metrics(items_discovered=len(names), items_succeeded=len(names))

print(f"run {run.run_id} is stored in {client.config.base_dir}")
