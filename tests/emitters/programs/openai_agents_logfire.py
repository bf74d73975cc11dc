"""OpenAI Agents, through Logfire."""

from __future__ import annotations

import logfire

from tests.emitters.programs import openai_agents_openinference as programs

EMITTER = "openai-agents, by Logfire"
PACKAGES = ("openai-agents", "logfire")
PROGRAMS = programs.PROGRAMS


def instrument(provider):
    logfire.configure(send_to_logfire=False, console=False)
    for processor in provider._active_span_processor._span_processors:
        logfire.DEFAULT_LOGFIRE_INSTANCE.config.get_tracer_provider().add_span_processor(processor)
    logfire.instrument_openai_agents()
