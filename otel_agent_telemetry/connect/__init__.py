"""Connecting coding agents: the settings that let them send their telemetry to the service."""
