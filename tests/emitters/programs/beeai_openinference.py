"""BeeAI, through OpenInference."""

from __future__ import annotations

from beeai_framework.adapters.openai.backend.chat import OpenAIChatModel
from beeai_framework.agents.requirement import RequirementAgent
from beeai_framework.tools import tool
from beeai_framework.workflows.agent import AgentWorkflow, AgentWorkflowInput
from openinference.instrumentation.beeai import BeeAIInstrumentor

EMITTER = "BeeAI, by OpenInference"
PACKAGES = ("beeai-framework", "openinference-instrumentation-beeai")


def instrument(provider):
    BeeAIInstrumentor().instrument(tracer_provider=provider)


@tool
def find(title: str) -> str:
    """Find a book."""
    return f"{title}: shelf 3"


def model(url):
    return OpenAIChatModel("gpt-4o-mini", api_key="none", base_url=f"{url}/v1")


async def tool_call(url, text="Where is it?"):
    await RequirementAgent(llm=model(url), tools=[find], name="librarian", final_answer_as_tool=False).run(text)


async def fails(url):
    await tool_call(url, "Please fail")


async def workflow(url):
    flow = AgentWorkflow(name="desk")
    for name in ("librarian", "writer"):
        flow.add_agent(name=name, role="clerk", instructions="Be brief", llm=model(url), tools=[])
    await flow.run(inputs=[AgentWorkflowInput(prompt="Where is it?"), AgentWorkflowInput(prompt="Write it down")])


PROGRAMS = {"a tool call": tool_call, "a workflow whose second agent fails": workflow, "a model that fails": fails}
