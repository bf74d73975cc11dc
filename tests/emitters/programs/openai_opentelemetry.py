"""OpenAI's client, through OpenTelemetry's own instrumentation."""

from __future__ import annotations

from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

from tests.emitters.programs import openai_openinference as programs

EMITTER = "openai, by OpenTelemetry"
PACKAGES = ("openai", "opentelemetry-instrumentation-genai-openai")
PROGRAMS = programs.PROGRAMS


def instrument(provider):
    OpenAIInstrumentor().instrument(tracer_provider=provider)
