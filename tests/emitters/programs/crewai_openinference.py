"""CrewAI, through OpenInference."""

from __future__ import annotations

from crewai import LLM, Agent, Crew, Process, Task
from crewai.flow.flow import Flow, listen, start
from crewai.tools import tool
from openinference.instrumentation.crewai import CrewAIInstrumentor

EMITTER = "crewai, by OpenInference"
PACKAGES = ("crewai", "openinference-instrumentation-crewai")


def instrument(provider):
    CrewAIInstrumentor().instrument(tracer_provider=provider)


@tool("find")
def find(title: str) -> str:
    """Find a book."""
    return f"{title}: shelf 3"


def agent(url, role, **more):
    llm = LLM(model="openai/gpt-4o-mini", base_url=f"{url}/v1", api_key="none", max_retries=0)
    return Agent(role=role, goal="Answer", backstory="None", llm=llm, max_retry_limit=0, **more)


def crew(url, *roles, text="Where is it?", **more):
    agents = [agent(url, role, tools=[find]) for role in roles]
    tasks = [Task(description=text, expected_output="A place", agent=one) for one in agents]
    return Crew(agents=agents, tasks=tasks, process=Process.sequential, name="library", **more)


def tool_call(url):
    crew(url, "librarian").kickoff()


def two_agents(url):
    crew(url, "researcher", "writer").kickoff()


def fails(url):
    crew(url, "librarian", text="Please fail").kickoff()


def flow(url):
    class Desk(Flow):
        name = "desk"

        @start()
        def ask(self):
            return crew(url, "librarian").kickoff().raw

        @listen(ask)
        def answer(self, found):
            return found

    Desk().kickoff()


PROGRAMS = {"a tool call": tool_call, "two agents": two_agents, "a model that fails": fails, "a flow": flow}
