"""Real agent frameworks with fake models: their runs as a person would tell them, written by hand."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from importlib.util import LazyLoader, find_spec, module_from_spec

import pytest
from opentelemetry import propagate

from otel_agent_telemetry import AgentRunSpanProcessor
from otel_agent_telemetry.testing import MemoryRecorder, capture_runs, isolated_config


def on_first_use(name):
    """Return a module that is imported when something of it is asked for."""
    spec = find_spec(name)
    spec.loader = LazyLoader(spec.loader)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


programs = on_first_use("tests.frameworks.programs")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # theirs
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
KEY = "sk-never-used-0000000000000000"


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    """No key, no tracing to anybody's service."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_AGENTS_DISABLE_TRACING", "0")
    monkeypatch.setenv("LANGSMITH_TRACING", "false")


@pytest.fixture
def captured():
    with capture_runs() as opened:
        yield opened


def told(captured):
    """Every run as one would tell it: who, what, how it ended, inside of whom, what it used."""
    names = {run.run_id: run.agent_name for run in captured.runs}
    return [
        {
            "agent": run.agent_name,
            "job": run.job_type,
            "status": run.status,
            "inside": names.get(run.parent_run_id),
            "why": run.error_summary,
            **json.loads(run.metrics_json or "{}").get("gen_ai", {}),
        }
        for run in captured.runs
    ]


# pydantic-ai


LIBRARIAN = {"agent": "librarian", "job": "invoke_agent librarian", "inside": None}


def test_pydantic_ai_with_a_tool(captured):
    """Two calls of the model around one of the tool; tokens counted once, though the root repeats them."""
    agent = programs.pydantic_agent(captured, programs.TestModel())

    @agent.tool_plain
    def find(title: str) -> str:
        return f"{title}: shelf 3"

    asyncio.run(agent.run("Where is it?"))
    (run,) = told(captured)
    tokens = {name: run.pop(name) for name in ("input_tokens", "output_tokens")}
    assert run.pop("by_model") == {"test": {**tokens, "model_calls": 2, "provider": "test"}}
    assert run == {
        **LIBRARIAN,
        "status": "success",
        "why": None,
        "model_calls": 2,
        "models": ["test"],
        "steps": 3,
        "tool_calls": 1,
    }
    own = json.loads(captured.runs[0].context_json)
    assert tokens == {
        "input_tokens": own["gen_ai.aggregated_usage.input_tokens"],
        "output_tokens": own["gen_ai.aggregated_usage.output_tokens"],
    }


def test_pydantic_ai_whose_model_fails(captured):
    """The run failed, and says why."""

    def down(_messages, _info):
        raise RuntimeError("the model is down")

    with pytest.raises(RuntimeError):
        asyncio.run(programs.pydantic_agent(captured, programs.FunctionModel(down)).run("Where is it?"))
    (run,) = told(captured)
    assert (run["status"], run["why"]) == ("failed", "RuntimeError: the model is down")
    assert (run["child_errors"], run["had_errors"]) == (1, True)


def test_pydantic_ai_streaming(captured):
    """The run lasts until the stream is used up."""

    async def read():
        async with programs.pydantic_agent(captured, programs.TestModel()).run_stream("Hello") as answer:
            assert captured.runs[0].status == "running"
            return [piece async for piece in answer.stream_text()]

    assert asyncio.run(read())
    (run,) = told(captured)
    assert (run["status"], run["model_calls"]) == ("success", 1)


def test_pydantic_ai_agent_that_asks_another(captured):
    """A run inside a run, each with its own tokens."""
    helper = programs.pydantic_agent(captured, programs.TestModel())
    helper.name = "archivist"
    agent = programs.pydantic_agent(captured, programs.TestModel())

    @agent.tool_plain
    async def ask(question: str) -> str:
        return str((await helper.run(question)).output)

    asyncio.run(agent.run("Where is it?"))
    outer, inner = told(captured)
    assert (outer["agent"], inner["agent"], inner["inside"]) == ("librarian", "archivist", "librarian")
    assert (outer["model_calls"], inner["model_calls"]) == (2, 1)


# LangGraph, through OpenInference


@pytest.fixture
def langchain(captured):
    instrumentor = programs.LangChainInstrumentor()
    instrumentor.instrument(tracer_provider=captured.provider)
    yield captured
    instrumentor.uninstrument()


def test_langgraph_with_a_graph_inside(langchain):
    """One run, called as the outer graph is; the inner one and its nodes are steps."""

    def write(state):
        return {"text": programs.langchain_model("hello").invoke(state["text"]).content}

    writer = programs.graph("writer", write=write)
    editor = programs.graph("editor", writer=writer, check=lambda state: {"text": state["text"] + "!"})
    assert editor.invoke({"text": "q"}) == {"text": "hello!"}
    (run,) = told(langchain)
    assert run == {
        "agent": "editor",
        "job": "editor",
        "status": "success",
        "inside": None,
        "why": None,
        "input_tokens": 12,
        "model_calls": 1,
        "output_tokens": 3,
        "steps": 5,
    }
    assert [step.name for step in langchain.spans][-1] == "check"


def test_langgraph_whose_node_raises(langchain):
    """The run failed with the node's exception."""
    with pytest.raises(ZeroDivisionError):
        programs.graph("divider", divide=lambda _state: {"text": str(1 / 0)}).invoke({"text": "q"})
    (run,) = told(langchain)
    assert (run["agent"], run["status"], run["why"]) == (
        "divider",
        "failed",
        "ZeroDivisionError: division by zero",
    )


def test_langgraph_runs_at_once(langchain):
    """Twenty in one event loop: each is a run of its own, with its own steps."""
    one = programs.graph("parrot", repeat=lambda state: state)

    async def all_of_them():
        await asyncio.gather(*(one.ainvoke({"text": str(number)}) for number in range(20)))

    asyncio.run(all_of_them())
    assert [(run["agent"], run["steps"]) for run in told(langchain)] == [("parrot", 1)] * 20


# openai-agents, through OpenInference


@pytest.fixture
def openai_agents(captured):
    instrumentor = programs.OpenAIAgentsInstrumentor()
    instrumentor.instrument(tracer_provider=captured.provider)
    yield captured
    instrumentor.uninstrument()


def test_openai_agents(openai_agents):
    """The workflow's root names nobody: the run is called as its agent is."""
    agent = programs.OpenAIAgent(name="Assistant", model=programs.OpenAIModel(programs.said("hi")))
    assert asyncio.run(programs.Runner.run(agent, "hello")).final_output == "hi"
    (run,) = told(openai_agents)
    assert (run["agent"], run["job"], run["status"]) == ("Assistant", "Agent workflow", "success")


def test_openai_agents_that_hand_over(openai_agents):
    """The second agent is a run inside the first."""
    closer = programs.OpenAIAgent(name="Closer", model=programs.OpenAIModel(programs.said("bye")))
    opener = programs.OpenAIAgent(
        name="Opener", model=programs.OpenAIModel(programs.hand_over_to("closer")), handoffs=[closer]
    )
    assert asyncio.run(programs.Runner.run(opener, "hello")).final_output == "bye"
    assert [(run["agent"], run["inside"]) for run in told(openai_agents)] == [("Opener", None), ("Closer", "Opener")]


def test_openai_agents_whose_model_fails(openai_agents):
    """The framework ends its root as a success: that the agent's span failed is told beside it."""
    agent = programs.OpenAIAgent(name="Assistant", model=programs.OpenAIModel(RuntimeError("down")))
    with pytest.raises(RuntimeError):
        asyncio.run(programs.Runner.run(agent, "hello"))
    (run,) = told(openai_agents)
    assert (run["agent"], run["status"], run["had_errors"]) == ("Assistant", "success", True)


# Logfire


@pytest.fixture
def as_logfire_found_it(monkeypatch):
    """Take back what Logfire changes for the whole process: pools that carry contexts along, the propagator."""
    for pool in (ThreadPoolExecutor, ProcessPoolExecutor):
        monkeypatch.setattr(pool, "submit", pool.submit)
    propagator = propagate.get_global_textmap()
    yield
    propagate.set_global_textmap(propagator)


@pytest.mark.usefixtures("as_logfire_found_it")
def test_logfire_with_the_processor_among_its_own():
    """Logfire calls processors with instrumentation suppressed; what the application suppresses is no run."""
    import logfire  # takes as long as the programs

    recorder = MemoryRecorder(isolated_config("/nowhere", skip_validation=True))
    processors = [AgentRunSpanProcessor(recorder=recorder)]
    instance = logfire.configure(
        local=True, send_to_logfire=False, console=False, additional_span_processors=processors
    )
    with instance.span("work"), instance.span("step"):
        pass
    with logfire.suppress_instrumentation(), instance.span("suppressed"):
        pass
    assert [state.job_type for state in recorder.states if state.status == "success"] == ["work"]
    assert {step.name for step in recorder.spans} == {"step"}
