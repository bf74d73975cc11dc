"""Anthropic's client, through Traceloop's instrumentation."""

from __future__ import annotations

from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor

from tests.emitters.programs import anthropic_openinference as programs

EMITTER = "anthropic, by Traceloop"
PACKAGES = ("anthropic", "opentelemetry-instrumentation-anthropic")
PROGRAMS = programs.PROGRAMS


def instrument(provider):
    AnthropicInstrumentor().instrument(tracer_provider=provider)
