"""Strands, with its own spans."""

from __future__ import annotations

import asyncio

from strands import Agent, tool
from strands.models.openai import OpenAIModel
from strands.multiagent import GraphBuilder, Swarm

EMITTER = "strands"
PACKAGES = ("strands-agents",)


def instrument(_provider):
    """The global provider is used."""


@tool
def find(title: str) -> str:
    """Find a book.

    Args:
        title: Its title.
    """
    return f"{title}: shelf 3"


def agent(url, name, **more):
    client = {"base_url": f"{url}/v1", "api_key": "none", "max_retries": 0}
    return Agent(
        model=OpenAIModel(client_args=client, model_id="gpt-4o-mini"), name=name, callback_handler=None, **more
    )


def tool_call(url):
    agent(url, "librarian", tools=[find])("Where is it?")


def fails(url):
    agent(url, "librarian", tools=[find])("Please fail")


async def streams(url):
    async for _ in agent(url, "librarian", tools=[find]).stream_async("Where is it?"):
        pass


async def at_once(url):
    await asyncio.gather(*(agent(url, name).invoke_async("Where is it?") for name in ("left", "right")))


def graph(url):
    built = GraphBuilder()
    built.add_node(agent(url, "researcher", tools=[find]), "research")
    built.add_node(agent(url, "left"), "left")
    built.add_node(agent(url, "right"), "right")
    built.add_edge("research", "left")
    built.add_edge("research", "right")
    built.build()("Where is it?")


def swarm(url):
    Swarm([agent(url, "opener")])("Where is it?")


PROGRAMS = {
    "a tool call": tool_call,
    "a model that fails": fails,
    "streaming": streams,
    "two agents at once": at_once,
    "a graph": graph,
    "a swarm": swarm,
}
