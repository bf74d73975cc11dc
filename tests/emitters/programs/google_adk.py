"""Google ADK, with its own spans."""

from __future__ import annotations

from functools import cached_property

from google.adk.agents import LlmAgent, ParallelAgent, SequentialAgent
from google.adk.agents.run_config import RunConfig, StreamingMode
from google.adk.models.google_llm import Gemini
from google.adk.runners import InMemoryRunner
from google.adk.tools.agent_tool import AgentTool
from google.genai import Client, types

EMITTER = "google-adk"
PACKAGES = ("google-adk", "google-genai")


def instrument(_provider):
    """The global provider is used."""


def find(title: str) -> str:
    """Find a book."""
    return f"{title}: shelf 3"


class Model(Gemini):
    """Gemini at an address of ours."""

    url: str

    @cached_property
    def api_client(self):
        return Client(api_key="none", http_options=types.HttpOptions(base_url=self.url))


def agent(url, name, **more):
    return LlmAgent(name=name, model=Model(model="gemini-2.5-flash", url=url), description=name, **more)


async def run(root, text, **more):
    runner = InMemoryRunner(agent=root, app_name="library")
    session = await runner.session_service.create_session(app_name="library", user_id="u-1", session_id="s-1")
    message = types.Content(role="user", parts=[types.Part(text=text)])
    async for _ in runner.run_async(user_id="u-1", session_id=session.id, new_message=message, **more):
        pass


async def tool_call(url):
    await run(agent(url, "librarian", tools=[find]), "Where is it?")


async def fails(url):
    await run(agent(url, "librarian"), "Please fail")


async def streams(url):
    await run(
        agent(url, "librarian", tools=[find]), "Where is it?", run_config=RunConfig(streaming_mode=StreamingMode.SSE)
    )


async def sequence(url):
    parts = [agent(url, "researcher", tools=[find]), agent(url, "writer")]
    await run(SequentialAgent(name="desk", sub_agents=parts), "Where is it?")


async def at_once(url):
    await run(ParallelAgent(name="desk", sub_agents=[agent(url, "left"), agent(url, "right")]), "Where is it?")


async def agent_as_tool(url):
    await run(agent(url, "desk", tools=[AgentTool(agent(url, "librarian"))]), "Where is it?")


PROGRAMS = {
    "a tool call": tool_call,
    "a model that fails": fails,
    "streaming": streams,
    "a sequential agent": sequence,
    "a parallel agent": at_once,
    "an agent as a tool": agent_as_tool,
}
