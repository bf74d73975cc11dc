"""pydantic-ai, with its own instrumentation."""

from __future__ import annotations

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

EMITTER = "pydantic-ai"
PACKAGES = ("pydantic-ai-slim",)


def instrument(_provider):
    Agent.instrument_all()


def agent(url, name):
    return Agent(
        OpenAIChatModel("gpt-4o-mini", provider=OpenAIProvider(base_url=f"{url}/v1", api_key="none")), name=name
    )


def librarian(url):
    made = agent(url, "librarian")

    @made.tool_plain
    def find(title: str) -> str:
        return f"{title}: shelf 3"

    return made


async def tool_call(url):
    await librarian(url).run("Where is it?")


async def fails(url):
    await librarian(url).run("Please fail")


async def streams(url):
    async with librarian(url).run_stream("Where is it?") as answer:
        async for _ in answer.stream_text():
            pass


async def delegates(url):
    desk, archivist = agent(url, "desk"), agent(url, "archivist")

    @desk.tool_plain
    async def ask(question: str) -> str:
        return str((await archivist.run(question)).output)

    await desk.run("Where is it?")


PROGRAMS = {
    "a tool call": tool_call,
    "a model that fails": fails,
    "streaming": streams,
    "an agent that asks another": delegates,
}
