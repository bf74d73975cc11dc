"""`python -m otel_agent_telemetry.cli` is `agent-telemetry`."""

from otel_agent_telemetry.cli.app import main

main()
