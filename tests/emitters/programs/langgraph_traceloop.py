"""LangGraph and LangChain, through Traceloop's instrumentation."""

from __future__ import annotations

from opentelemetry.instrumentation.langchain import LangchainInstrumentor

from tests.emitters.programs import langgraph_openinference as programs

EMITTER = "langgraph, by Traceloop"
PACKAGES = ("langgraph", "langchain", "langchain-core", "opentelemetry-instrumentation-langchain")
PROGRAMS = programs.PROGRAMS


def instrument(provider):
    LangchainInstrumentor().instrument(tracer_provider=provider)
