"""Microsoft Agent Framework, with its own spans."""

from __future__ import annotations

from agent_framework import Agent, WorkflowBuilder
from agent_framework.observability import enable_instrumentation
from agent_framework_openai import OpenAIChatClient, OpenAIChatCompletionClient
from openai import AsyncOpenAI

EMITTER = "agent-framework"
PACKAGES = ("agent-framework-core", "agent-framework-openai")


def instrument(_provider):
    enable_instrumentation()


def find(title: str) -> str:
    """Find a book."""
    return f"{title}: shelf 3"


def agent(url, name, *, kind=OpenAIChatClient, **more):
    client = AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    return Agent(client=kind(model="gpt-4o-mini", async_client=client), name=name, **more)


async def tool_call(url):
    await agent(url, "librarian", tools=[find]).run("Where is it?")


async def chat_completions(url):
    await agent(url, "librarian", kind=OpenAIChatCompletionClient, tools=[find]).run("Where is it?")


async def fails(url):
    await agent(url, "librarian").run("Please fail")


async def streams(url):
    async for _ in agent(url, "librarian", tools=[find]).run("Where is it?", stream=True):
        pass


async def workflow(url):
    researcher, writer = agent(url, "researcher", tools=[find]), agent(url, "writer")
    built = WorkflowBuilder(start_executor=researcher, name="library").add_edge(researcher, writer).build()
    await built.run("Where is it?")


PROGRAMS = {
    "a tool call": tool_call,
    "a tool call by chat completions": chat_completions,
    "a model that fails": fails,
    "streaming": streams,
    "a workflow of agents": workflow,
}
