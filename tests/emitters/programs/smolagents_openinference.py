"""smolagents, through OpenInference."""

from __future__ import annotations

from openinference.instrumentation.smolagents import SmolagentsInstrumentor
from smolagents import OpenAIServerModel, ToolCallingAgent, tool

EMITTER = "smolagents, by OpenInference"
PACKAGES = ("smolagents", "openinference-instrumentation-smolagents")


def instrument(provider):
    SmolagentsInstrumentor().instrument(tracer_provider=provider)


@tool
def find(title: str) -> str:
    """Find a book.

    Args:
        title: Its title.
    """
    return f"{title}: shelf 3"


def agent(url, name="librarian", **more):
    model = OpenAIServerModel(
        model_id="gpt-4o-mini", api_base=f"{url}/v1", api_key="none", client_kwargs={"max_retries": 0}
    )
    return ToolCallingAgent(
        tools=[find], model=model, name=name, description=name, max_steps=1, verbosity_level=0, **more
    )


def tool_call(url):
    agent(url).run("Where is it?")


def fails(url):
    agent(url).run("Please fail")


def streams(url):
    for _ in agent(url).run("Where is it?", stream=True):
        pass


def without_name(url):
    agent(url, name=None).run("Where is it?")


PROGRAMS = {
    "a tool call": tool_call,
    "a model that fails": fails,
    "streaming": streams,
    "an agent without a name": without_name,
}
