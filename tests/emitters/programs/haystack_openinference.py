"""Haystack, through OpenInference."""

from __future__ import annotations

from typing import Annotated

from haystack import Document, Pipeline
from haystack.components.agents import Agent
from haystack.components.builders import ChatPromptBuilder
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.dataclasses import ChatMessage
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.tools import tool
from haystack.utils import Secret
from openinference.instrumentation.haystack import HaystackInstrumentor

EMITTER = "haystack, by OpenInference"
PACKAGES = ("haystack-ai", "openinference-instrumentation-haystack")


def instrument(provider):
    HaystackInstrumentor().instrument(tracer_provider=provider)


@tool
def find(title: Annotated[str, "the title"]) -> str:
    """Find a book."""
    return f"{title}: shelf 3"


def model(url):
    return OpenAIChatGenerator(
        model="gpt-4o-mini", api_base_url=f"{url}/v1", api_key=Secret.from_token("none"), max_retries=0
    )


def pipeline(url, text="Where is it?"):
    store = InMemoryDocumentStore()
    store.write_documents([Document(content="It is on shelf 3.")])
    made = Pipeline()
    made.add_component("retriever", InMemoryBM25Retriever(store))
    template = [ChatMessage.from_user("{% for d in documents %}{{ d.content }}{% endfor %} {{ question }}")]
    made.add_component("prompt", ChatPromptBuilder(template=template, required_variables="*"))
    made.add_component("model", model(url))
    made.connect("retriever.documents", "prompt.documents")
    made.connect("prompt.prompt", "model.messages")
    made.run({"retriever": {"query": text}, "prompt": {"question": text}})


def fails(url):
    pipeline(url, "Please fail")


def agent(url):
    Agent(chat_generator=model(url), tools=[find]).run(messages=[ChatMessage.from_user("Where is it?")])


def agent_in_pipeline(url):
    made = Pipeline()
    made.add_component("librarian", Agent(chat_generator=model(url), tools=[find]))
    made.run({"librarian": {"messages": [ChatMessage.from_user("Where is it?")]}})


PROGRAMS = {
    "a pipeline": pipeline,
    "a model that fails": fails,
    "an agent": agent,
    "an agent in a pipeline": agent_in_pipeline,
}
