"""LlamaIndex, through Traceloop's instrumentation."""

from __future__ import annotations

from opentelemetry.instrumentation.llamaindex import LlamaIndexInstrumentor

from tests.emitters.programs import llamaindex_openinference as programs

EMITTER = "llama-index, by Traceloop"
PACKAGES = ("llama-index-core", "opentelemetry-instrumentation-llamaindex")
PROGRAMS = programs.PROGRAMS


def instrument(provider):
    LlamaIndexInstrumentor().instrument(tracer_provider=provider)
