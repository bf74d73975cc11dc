"""AG2, whose middleware makes spans itself."""

from __future__ import annotations

from ag2 import Agent, tool
from ag2.config import OpenAIConfig
from ag2.middleware.builtin.telemetry import TelemetryMiddleware

EMITTER = "AG2"
PACKAGES = ("ag2",)
PROVIDER = []


def instrument(provider):
    PROVIDER.append(provider)


@tool
def find(title: str) -> str:
    """Find a book."""
    return f"{title}: shelf 3"


async def tool_call(url, text="Where is it?"):
    config = OpenAIConfig("gpt-4o-mini", base_url=f"{url}/v1", api_key="none")
    middleware = TelemetryMiddleware(tracer_provider=PROVIDER[0], agent_name="librarian")
    await Agent("librarian", config=config, tools=[find], middleware=[middleware]).ask(text)


async def fails(url):
    await tool_call(url, "Please fail")


PROGRAMS = {"a tool call": tool_call, "a model that fails": fails}
