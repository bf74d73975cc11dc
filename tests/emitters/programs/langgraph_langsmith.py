"""LangGraph and LangChain, through LangSmith's OpenTelemetry exporter, with no LangSmith."""

from __future__ import annotations

import os

os.environ |= {
    "LANGSMITH_TRACING": "true",
    "LANGSMITH_OTEL_ENABLED": "true",
    "LANGSMITH_OTEL_ONLY": "true",
    "LANGSMITH_API_KEY": "none",
    "LANGSMITH_ENDPOINT": "http://127.0.0.1:9",
}

from langchain_core.tracers.langchain import wait_for_all_tracers

from tests.emitters.programs import langgraph_openinference as programs

EMITTER = "langgraph, by LangSmith"
PACKAGES = ("langgraph", "langchain", "langchain-core", "langsmith")


def instrument(_provider):
    """The global provider is used."""


def _waited(program):
    def run(url):
        try:
            program(url)
        finally:
            wait_for_all_tracers()

    return run


PROGRAMS = {
    name: _waited(programs.PROGRAMS[name])
    for name in ("a tool call", "a model that fails", "streaming", "a graph with an agent inside")
}
