"""LiteLLM, with its own OpenTelemetry callback."""

from __future__ import annotations

import time

import litellm
from litellm.integrations.opentelemetry import OpenTelemetry, OpenTelemetryConfig

from tests.emitters.programs import litellm_openinference as programs

EMITTER = "litellm"
PACKAGES = ("litellm",)


def _waited(program):
    def run(url):
        try:
            program(url)
        finally:
            time.sleep(2)  # callbacks run on a thread of their own

    return run


PROGRAMS = {name: _waited(program) for name, program in programs.PROGRAMS.items()}


def instrument(provider):
    litellm.callbacks = [OpenTelemetry(config=OpenTelemetryConfig(exporter="none"), tracer_provider=provider)]
