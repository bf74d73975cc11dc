"""OpenAI Agents, through Traceloop's instrumentation."""

from __future__ import annotations

from opentelemetry.instrumentation.openai_agents import OpenAIAgentsInstrumentor

from tests.emitters.programs import openai_agents_openinference as programs

EMITTER = "openai-agents, by Traceloop"
PACKAGES = ("openai-agents", "opentelemetry-instrumentation-openai-agents")
PROGRAMS = programs.PROGRAMS


def instrument(provider):
    OpenAIAgentsInstrumentor().instrument(tracer_provider=provider)
