"""Semantic Kernel, with its own spans."""

from __future__ import annotations

import os

os.environ["SEMANTICKERNEL_EXPERIMENTAL_GENAI_ENABLE_OTEL_DIAGNOSTICS"] = "true"

from openai import AsyncOpenAI
from semantic_kernel import Kernel
from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.connectors.ai import FunctionChoiceBehavior
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion, OpenAIChatPromptExecutionSettings
from semantic_kernel.functions import KernelArguments, kernel_function

EMITTER = "semantic-kernel"
PACKAGES = ("semantic-kernel",)


def instrument(_provider):
    """The global provider is used."""


class Shelves:
    @kernel_function(description="Find a book")
    def find(self, title: str) -> str:
        return f"{title}: shelf 3"


def service(url):
    client = AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    return OpenAIChatCompletion(ai_model_id="gpt-4o-mini", async_client=client)


def librarian(url):
    return ChatCompletionAgent(name="librarian", service=service(url), plugins=[Shelves()])


async def tool_call(url):
    await librarian(url).get_response("Where is it?")


async def fails(url):
    await librarian(url).get_response("Please fail")


async def streams(url):
    async for _ in librarian(url).invoke_stream("Where is it?"):
        pass


async def prompt(url):
    kernel = Kernel()
    kernel.add_service(service(url))
    kernel.add_plugin(Shelves(), "shelves")
    settings = OpenAIChatPromptExecutionSettings(function_choice_behavior=FunctionChoiceBehavior.Auto())
    arguments = KernelArguments(settings=settings)
    await kernel.invoke_prompt("Where is it?", function_name="ask", plugin_name="library", arguments=arguments)


PROGRAMS = {"a tool call": tool_call, "a model that fails": fails, "streaming": streams, "a prompt": prompt}
