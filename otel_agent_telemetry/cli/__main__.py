"""Run `agent-telemetry` as `python -m otel_agent_telemetry.cli`."""

from otel_agent_telemetry.cli.app import main

main()
