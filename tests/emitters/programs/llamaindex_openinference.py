"""LlamaIndex, through OpenInference."""

from __future__ import annotations

from llama_index.core import Document, VectorStoreIndex
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor

EMITTER = "llama-index, by OpenInference"
PACKAGES = ("llama-index-core", "openinference-instrumentation-llama-index")


def instrument(provider):
    LlamaIndexInstrumentor().instrument(tracer_provider=provider)


def find(title: str) -> str:
    """Find a book."""
    return f"{title}: shelf 3"


def model(url):
    return OpenAILike(
        model="gpt-4o-mini",
        api_base=f"{url}/v1",
        api_key="none",
        is_chat_model=True,
        is_function_calling_model=True,
        max_retries=0,
        additional_kwargs={"stream_options": {"include_usage": True}},
    )


def librarian(url, name="librarian", **more):
    tools = [FunctionTool.from_defaults(find)]
    return FunctionAgent(name=name, description=name, tools=tools, llm=model(url), streaming=False, **more)


def plain_model(url):
    llm = model(url)
    llm.additional_kwargs = {}
    return llm


async def tool_call(url):
    agent = librarian(url)
    agent.llm = plain_model(url)
    await agent.run("Where is it?")


async def fails(url):
    agent = librarian(url)
    agent.llm = plain_model(url)
    await agent.run("Please fail")


async def streams(url):
    agent = librarian(url)
    agent.streaming = True
    handler = agent.run("Where is it?")
    async for _ in handler.stream_events():
        pass
    await handler


async def workflow(url):
    agent = librarian(url)
    agent.llm = plain_model(url)
    await AgentWorkflow(agents=[agent], root_agent="librarian").run("Where is it?")


async def react(url):
    llm = plain_model(url)
    await ReActAgent(name="thinker", tools=[], llm=llm, streaming=False).run("Where is it?")


def retrieval(url):
    index = VectorStoreIndex.from_documents(
        [Document(text="It is on shelf 3.")], embed_model=MockEmbedding(embed_dim=2)
    )
    index.as_query_engine(llm=plain_model(url)).query("Where is it?")


PROGRAMS = {
    "a tool call": tool_call,
    "a model that fails": fails,
    "streaming": streams,
    "a workflow of agents": workflow,
    "an agent that reasons": react,
    "a query over documents": retrieval,
}
