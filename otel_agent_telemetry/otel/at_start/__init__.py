"""What a Python program does first that `agent-telemetry instrument` starts: a folder for `PYTHONPATH`."""
