"""AutoGen, through OpenInference."""

from __future__ import annotations

from openinference.instrumentation.autogen_agentchat import AutogenAgentChatInstrumentor

from tests.emitters.programs import autogen as programs

EMITTER = "autogen, by OpenInference"
PACKAGES = ("autogen-agentchat", "openinference-instrumentation-autogen-agentchat")
PROGRAMS = programs.PROGRAMS


def instrument(provider):
    AutogenAgentChatInstrumentor().instrument(tracer_provider=provider)
