"""Agent frameworks with models that answer without a network.

Importing them takes seconds, so a test file asks for them by `on_first_use`: it is imported by
every worker, its tests are run by few.
"""

from __future__ import annotations

from typing import TypedDict

from agents import Agent as OpenAIAgent
from agents import Model, ModelResponse, Runner, Usage
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import END, START, StateGraph
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
from openinference.instrumentation.langchain import LangChainInstrumentor
from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor
from pydantic_ai import Agent as PydanticAgent
from pydantic_ai.capabilities import Instrumentation
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.models.test import TestModel

__all__ = [
    "FunctionModel",
    "LangChainInstrumentor",
    "OpenAIAgent",
    "OpenAIAgentsInstrumentor",
    "OpenAIModel",
    "Runner",
    "TestModel",
    "graph",
    "hand_over_to",
    "langchain_model",
    "pydantic_agent",
    "said",
]

LANGCHAIN_USAGE = {"input_tokens": 12, "output_tokens": 3, "total_tokens": 15}


def pydantic_agent(captured, model, **more):
    settings = InstrumentationSettings(tracer_provider=captured.provider)
    return PydanticAgent(model, name="librarian", capabilities=[Instrumentation(settings=settings)], **more)


class State(TypedDict):
    """What the graphs pass on."""

    text: str


def graph(name, **nodes):
    """A graph of nodes one after the other."""
    built, before = StateGraph(State), START
    for node, work in nodes.items():
        built.add_node(node, work)
        built.add_edge(before, node)
        before = node
    built.add_edge(before, END)
    return built.compile(name=name)


def langchain_model(*answers):
    """Answers with these texts, one a call, and tells what it used."""
    return GenericFakeChatModel(
        messages=iter(
            [
                AIMessage(text, usage_metadata=LANGCHAIN_USAGE, response_metadata={"model_name": "m-1"})
                for text in answers
            ]
        )
    )


class OpenAIModel(Model):
    """Gives these outputs, one a call; raises those that are exceptions."""

    def __init__(self, *outputs):
        self._outputs = list(outputs)

    async def get_response(self, *_args, **_more):
        output = self._outputs.pop(0)
        if isinstance(output, Exception):
            raise output
        used = Usage(requests=1, input_tokens=10, output_tokens=5, total_tokens=15)
        return ModelResponse(output=[output], usage=used, response_id="r")

    async def stream_response(self, *_args, **_more):
        raise NotImplementedError
        yield


def said(text):
    content = [ResponseOutputText(text=text, type="output_text", annotations=[])]
    return ResponseOutputMessage(id="m", content=content, role="assistant", status="completed", type="message")


def hand_over_to(name):
    return ResponseFunctionToolCall(
        arguments="{}", call_id="c", name=f"transfer_to_{name}", type="function_call", id="f", status="completed"
    )
