"""AutoGen, with its own spans."""

from __future__ import annotations

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import SingleThreadedAgentRuntime
from autogen_ext.models.openai import OpenAIChatCompletionClient

EMITTER = "autogen"
PACKAGES = ("autogen-agentchat", "autogen-core", "autogen-ext")


def instrument(_provider):
    """The global provider is used."""


async def find(title: str) -> str:
    """Find a book."""
    return f"{title}: shelf 3"


def agent(url, name, **more):
    client = OpenAIChatCompletionClient(model="gpt-4o-mini", base_url=f"{url}/v1", api_key="none", max_retries=0)
    return AssistantAgent(name, model_client=client, description=name, **more)


async def tool_call(url):
    await agent(url, "librarian", tools=[find], reflect_on_tool_use=True).run(task="Where is it?")


async def fails(url):
    await agent(url, "librarian").run(task="Please fail")


async def streams(url):
    async for _ in agent(url, "librarian", tools=[find], reflect_on_tool_use=True).run_stream(task="Where is it?"):
        pass


async def team(url):
    runtime = SingleThreadedAgentRuntime()
    runtime.start()
    agents = [agent(url, "researcher"), agent(url, "writer")]
    chat = RoundRobinGroupChat(agents, termination_condition=MaxMessageTermination(3), runtime=runtime)
    await chat.run(task="Where is it?")
    await runtime.stop_when_idle()


PROGRAMS = {"a tool call": tool_call, "a model that fails": fails, "streaming": streams, "a team": team}
