"""LangGraph and LangChain, through OpenInference."""

from __future__ import annotations

from typing import TypedDict

from langchain.agents import create_agent
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableParallel, RunnablePassthrough
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from openinference.instrumentation.langchain import LangChainInstrumentor

EMITTER = "langgraph, by OpenInference"
PACKAGES = ("langgraph", "langchain", "langchain-core", "openinference-instrumentation-langchain")


def instrument(provider):
    LangChainInstrumentor().instrument(tracer_provider=provider)


@tool
def find(title: str) -> str:
    """Find a book."""
    return f"{title}: shelf 3"


class State(TypedDict):
    text: str


def model(url, **more):
    return ChatOpenAI(model="gpt-4o-mini", base_url=f"{url}/v1", api_key="none", max_retries=0, **more)


def asked(text):
    return {"messages": [{"role": "user", "content": text}]}


def tool_call(url):
    create_agent(model(url), [find], name="librarian").invoke(asked("Where is it?"))


def fails(url):
    create_agent(model(url), [find], name="librarian").invoke(asked("Please fail"))


def streams(url):
    agent = create_agent(model(url, stream_usage=True), [find], name="librarian")
    for _ in agent.stream(asked("Where is it?"), stream_mode="messages"):
        pass


async def asynchronous(url):
    await create_agent(model(url), [find], name="librarian").ainvoke(asked("Where is it?"))


def graph_of_two(url):
    """A graph whose node calls a graph with an agent."""
    agent = create_agent(model(url), [find], name="librarian")
    graph = StateGraph(State)
    graph.add_node("research", lambda state: {"text": agent.invoke(asked(state["text"]))["messages"][-1].content})
    graph.add_node("write", lambda state: {"text": model(url).invoke(state["text"]).content})
    graph.add_edge(START, "research")
    graph.add_edge("research", "write")
    graph.add_edge("write", END)
    graph.compile(name="editor").invoke({"text": "Where is it?"})


def chain(url):
    """Runnables with "agent" in their names, as LangChain's older agents have them."""
    prompt = ChatPromptTemplate.from_messages([("user", "{text} {agent_scratchpad}")])
    start = RunnablePassthrough.assign(agent_scratchpad=lambda _: "none") | RunnableParallel(
        text=lambda given: given["text"], agent_scratchpad=lambda given: given["agent_scratchpad"]
    )
    (start | prompt | model(url) | StrOutputParser()).invoke({"text": "Where is it?"})


PROGRAMS = {
    "a tool call": tool_call,
    "a model that fails": fails,
    "streaming": streams,
    "a tool call, asynchronously": asynchronous,
    "a graph with an agent inside": graph_of_two,
    "a chain": chain,
}
