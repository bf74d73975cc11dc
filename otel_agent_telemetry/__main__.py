"""Run `agent-telemetry` as `python -m otel_agent_telemetry`."""

from otel_agent_telemetry.cli.app import main

main()
