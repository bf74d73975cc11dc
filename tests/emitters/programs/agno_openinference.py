"""Agno, through OpenInference."""

from __future__ import annotations

from agno.agent import Agent
from agno.models.openai import OpenAIChat
from agno.team import Team
from openinference.instrumentation.agno import AgnoInstrumentor

EMITTER = "agno, by OpenInference"
PACKAGES = ("agno", "openinference-instrumentation-agno")


def instrument(provider):
    AgnoInstrumentor().instrument(tracer_provider=provider)


def find(title: str) -> str:
    """Find a book."""
    return f"{title}: shelf 3"


def model(url):
    return OpenAIChat(id="gpt-4o-mini", base_url=f"{url}/v1", api_key="none", max_retries=0, retries=0)


def librarian(url):
    return Agent(name="librarian", model=model(url), tools=[find], telemetry=False)


def tool_call(url):
    librarian(url).run("Where is it?")


def fails(url):
    librarian(url).run("Please fail")


def streams(url):
    for _ in librarian(url).run("Where is it?", stream=True):
        pass


def team(url):
    member = Agent(name="librarian", model=model(url), telemetry=False)
    Team(name="desk", members=[member], model=model(url), telemetry=False).run("Where is it?")


PROGRAMS = {"a tool call": tool_call, "a model that fails": fails, "streaming": streams, "a team": team}
