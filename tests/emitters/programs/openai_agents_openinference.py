"""OpenAI Agents, through OpenInference."""

from __future__ import annotations

from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool
from openai import AsyncOpenAI
from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor

EMITTER = "openai-agents, by OpenInference"
PACKAGES = ("openai-agents", "openinference-instrumentation-openai-agents")


def instrument(provider):
    OpenAIAgentsInstrumentor().instrument(tracer_provider=provider)


@function_tool
def find(title: str) -> str:
    """Find a book."""
    return f"{title}: shelf 3"


def client(url):
    return AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def librarian(url, *, model=OpenAIResponsesModel, **more):
    return Agent(name="librarian", model=model("gpt-4o-mini", client(url)), tools=[find], **more)


async def tool_call(url):
    await Runner.run(librarian(url), "Where is it?")


async def chat_completions(url):
    await Runner.run(librarian(url, model=OpenAIChatCompletionsModel), "Where is it?")


async def fails(url):
    await Runner.run(librarian(url), "Please fail")


async def streams(url):
    answer = Runner.run_streamed(librarian(url, model_settings=ModelSettings(include_usage=True)), "Where is it?")
    async for _ in answer.stream_events():
        pass


async def hands_over(url):
    closer = Agent(name="closer", model=OpenAIResponsesModel("gpt-4o-mini", client(url)))
    opener = Agent(name="opener", model=OpenAIResponsesModel("gpt-4o-mini", client(url)), handoffs=[closer])
    await Runner.run(opener, "Where is it?")


async def agent_as_tool(url):
    tool = librarian(url).as_tool("ask", "Ask the librarian")
    await Runner.run(
        Agent(name="desk", model=OpenAIResponsesModel("gpt-4o-mini", client(url)), tools=[tool]), "Where is it?"
    )


PROGRAMS = {
    "a tool call": tool_call,
    "a tool call by chat completions": chat_completions,
    "a model that fails": fails,
    "streaming": streams,
    "a hand-over": hands_over,
    "an agent as a tool": agent_as_tool,
}
