"""LangGraph and LangChain, through OpenTelemetry's own instrumentation."""

from __future__ import annotations

from opentelemetry.instrumentation.genai.langchain import LangChainInstrumentor

from tests.emitters.programs import langgraph_openinference as programs

EMITTER = "langgraph, by OpenTelemetry"
PACKAGES = ("langgraph", "langchain", "langchain-core", "opentelemetry-instrumentation-genai-langchain")
PROGRAMS = programs.PROGRAMS


def instrument(provider):
    LangChainInstrumentor().instrument(tracer_provider=provider)
