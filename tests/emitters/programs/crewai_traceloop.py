"""CrewAI, through Traceloop's instrumentation."""

from __future__ import annotations

from opentelemetry.instrumentation.crewai import CrewAIInstrumentor

from tests.emitters.programs import crewai_openinference as programs

EMITTER = "crewai, by Traceloop"
PACKAGES = ("crewai", "opentelemetry-instrumentation-crewai")
PROGRAMS = programs.PROGRAMS


def instrument(provider):
    CrewAIInstrumentor().instrument(tracer_provider=provider)
