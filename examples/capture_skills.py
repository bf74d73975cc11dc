"""Capture skills as entries and runs: with a decorator, with a context manager, and after they ended.

python examples/capture_skills.py
agent-telemetry capture-query
agent-telemetry runs
"""

from __future__ import annotations

from otel_agent_telemetry import TelemetryCapture, TelemetryContext, capture_telemetry


@capture_telemetry(skill_name="plugin.check", caller="plugin.build", capture_inputs=True)
def check(plugin_path: str, api_key: str = "not shown") -> dict[str, str]:  # noqa: ARG001 - shows masking
    """Return the status and error of the skill; the decorator records them."""
    if not plugin_path.endswith(".yaml"):
        return {"status": "failure", "error": "no manifest"}
    return {"status": "success"}


def build(plugin_path: str) -> None:
    """Capture a block; the call of `check` inside it becomes a child run."""
    with TelemetryContext(skill="plugin.build", caller="CLI", inputs={"plugin_path": plugin_path}) as block:
        if check(plugin_path)["status"] != "success":
            block.set_status("failure")
            block.set_error("the check failed")


if __name__ == "__main__":
    build("./plugin.yaml")
    build("./plugin.txt")
    telemetry = TelemetryCapture()
    telemetry.capture("audit.log", "success", 12.5, "cron", metadata={"host": "build-7"})
    for entry in telemetry.query(limit=10):
        print(f"{entry['status']:8} {entry['skill']:14} {entry['duration_ms']:8.2f} ms  {entry['error_message'] or ''}")
