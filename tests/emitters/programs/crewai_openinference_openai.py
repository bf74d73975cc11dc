"""CrewAI, through OpenInference, with the model's client instrumented too."""

from __future__ import annotations

from openinference.instrumentation.crewai import CrewAIInstrumentor
from openinference.instrumentation.openai import OpenAIInstrumentor

from tests.emitters.programs import crewai_openinference as programs

EMITTER = "crewai and openai, by OpenInference"
PACKAGES = ("crewai", "openinference-instrumentation-crewai", "openinference-instrumentation-openai")
PROGRAMS = programs.PROGRAMS


def instrument(provider):
    CrewAIInstrumentor().instrument(tracer_provider=provider)
    OpenAIInstrumentor().instrument(tracer_provider=provider)
