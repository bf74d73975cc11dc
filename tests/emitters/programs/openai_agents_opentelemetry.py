"""OpenAI Agents, through OpenTelemetry's own instrumentation."""

from __future__ import annotations

from opentelemetry.instrumentation.genai.openai_agents import OpenAIAgentsInstrumentor

from tests.emitters.programs import openai_agents_openinference as programs

EMITTER = "openai-agents, by OpenTelemetry"
PACKAGES = ("openai-agents", "opentelemetry-instrumentation-genai-openai-agents")
PROGRAMS = programs.PROGRAMS


def instrument(provider):
    OpenAIAgentsInstrumentor().instrument(tracer_provider=provider)
