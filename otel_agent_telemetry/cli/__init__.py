"""The command `agent-telemetry`: options, printing and exit codes; the logic is in `operations`."""
