"""What recording costs programs of frameworks, and the shapes of OpenTelemetry's own benchmark and example.

The frameworks' models answer at once. The shapes are those of the SDK's benchmark of a span, but for an integer that
OTLP can carry, and of the web application in the examples of servers that fork.
A framework's instrumentation belongs to the whole process, so both sides share one provider, whose processor hands
the spans to the side that is measured. A framework that is not installed is left out.
"""

from __future__ import annotations

import asyncio
import importlib.util
import warnings
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, TypedDict

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from otel_agent_telemetry import AgentRunSpanProcessor, TelemetryConfig
from tests.bench.pairs import SQLITE, Ratio, Times, measured, scaled, timed

Program = Callable[[], object]
RUNS: Final = 30
SPANS: Final = 400
QUESTION: Final = "Where is it?"
ANSWER: Final = "It stands on shelf 3."


class _Switch(SpanProcessor):
    """Hands spans to one of several processors."""

    active: SpanProcessor

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self.active.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        self.active.on_end(span)


def program_rows(config: TelemetryConfig, endpoint: str) -> Iterator[Ratio]:
    """Yield what a run of each program costs with our processor, against one with a BatchSpanProcessor."""
    warnings.filterwarnings("ignore")  # the frameworks' own
    switch, provider = _Switch(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(switch)
    ours = AgentRunSpanProcessor(config)
    theirs = BatchSpanProcessor(OTLPSpanExporter(endpoint), max_queue_size=100_000)
    for name, (makes, needs, times) in PROGRAMS.items():
        if not all(map(importlib.util.find_spec, needs)):
            continue
        program = makes(provider)

        def burst(side: SpanProcessor, program: Program = program, times: int = times) -> Times:
            switch.active = side
            taken = timed(program, scaled(times))
            side.force_flush(30_000)
            return taken

        pairs = measured(lambda burst=burst: burst(ours), lambda burst=burst: burst(theirs), pairs=7)  # type: ignore[misc]
        yield pairs.ratio(f"{name} / with a BatchSpanProcessor", goal=None, target=SQLITE)
    ours.shutdown()
    theirs.shutdown()


def span_of_the_sdks_benchmark(provider: TracerProvider) -> Program:
    """Return what OpenTelemetry's own benchmark measures: a span with a large integer, and an event."""
    tracer = provider.get_tracer("bench")

    def run() -> None:
        with tracer.start_as_current_span("benchmarkedSpan", attributes={"long.attribute": -(10**18)}) as span:
            span.add_event("benchmarkEvent")

    return run


def request_of_a_web_application(provider: TracerProvider) -> Program:
    """Return a request with two steps that say at their end what they did."""
    tracer = provider.get_tracer("bench")

    def run() -> None:
        with tracer.start_as_current_span("root"):
            for name in ("fib_slow", "fib_fast"):
                with tracer.start_as_current_span(name) as step:
                    step.set_attribute("n", 7)
                    step.set_attribute("nth_fibonacci", 13)

    return run


def _waiting(work: Callable[[], Awaitable[object]]) -> Program:
    """Return what runs a coroutine to its end."""
    loop = asyncio.new_event_loop()
    return lambda: loop.run_until_complete(work())  # type: ignore[arg-type]


def pydantic_ai(provider: TracerProvider) -> Program:
    """Return an agent that calls a tool and answers."""
    from pydantic_ai import Agent
    from pydantic_ai.models.instrumented import InstrumentationSettings
    from pydantic_ai.models.test import TestModel

    Agent.instrument_all(InstrumentationSettings(tracer_provider=provider))
    agent = Agent(TestModel(), name="librarian")
    agent.tool_plain(_find)
    return _waiting(lambda: agent.run(QUESTION))


def langgraph(provider: TracerProvider) -> Program:
    """Return a graph of two nodes, of which the first asks a model through a chain."""
    from langchain_core.language_models.fake_chat_models import FakeListChatModel
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate
    from langgraph.graph import END, START, StateGraph
    from openinference.instrumentation.langchain import LangChainInstrumentor

    LangChainInstrumentor().instrument(tracer_provider=provider)
    chain = ChatPromptTemplate.from_messages([("user", "{text}")]) | FakeListChatModel(responses=[ANSWER])
    answer = chain | StrOutputParser()
    graph: Any = StateGraph(_State)
    graph.add_node("ask", lambda state: {"text": answer.invoke({"text": state["text"]})})
    graph.add_node("check", lambda state: {"text": state["text"].strip()})
    for above, below in ((START, "ask"), ("ask", "check"), ("check", END)):
        graph.add_edge(above, below)
    compiled = graph.compile(name="librarian")
    return lambda: compiled.invoke({"text": QUESTION})


def openai_agents(provider: TracerProvider) -> Program:
    """Return an agent that calls a tool and answers."""
    from agents import Agent, Model, ModelResponse, Runner, Usage, function_tool
    from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
    from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor

    OpenAIAgentsInstrumentor().instrument(tracer_provider=provider)
    call = ResponseFunctionToolCall(call_id="1", name="_find", arguments='{"title":"it"}', type="function_call")
    text = ResponseOutputText(text=ANSWER, type="output_text", annotations=[])
    said = ResponseOutputMessage(id="2", type="message", role="assistant", status="completed", content=[text])

    class AtOnce(Model):
        """Calls the tool, then answers."""

        answers: list[Any] = [call, said]  # noqa: RUF012 - by turns, for the only one

        async def get_response(self, *_: Any, **__: Any) -> ModelResponse:
            self.answers.append(self.answers.pop(0))
            used = Usage(requests=1, input_tokens=10, output_tokens=3, total_tokens=13)
            return ModelResponse(output=[self.answers[-1]], usage=used, response_id="1")

        def stream_response(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

    agent = Agent(name="librarian", model=AtOnce(), tools=[function_tool(_find)])
    return _waiting(lambda: Runner.run(agent, QUESTION))


def _find(title: str) -> str:
    """Find a book."""
    return f"{title}: shelf 3"


class _State(TypedDict):
    """The state of the graph."""

    text: str


_Maker = Callable[[TracerProvider], Program]
PROGRAMS: Final[dict[str, tuple[_Maker, tuple[str, ...], int]]] = {
    "a span of the SDK's benchmark": (span_of_the_sdks_benchmark, (), SPANS),
    "a request of OpenTelemetry's example": (request_of_a_web_application, (), SPANS),
    "a run of pydantic-ai": (pydantic_ai, ("pydantic_ai",), RUNS),
    "a run of LangGraph": (langgraph, ("langgraph", "openinference.instrumentation.langchain"), RUNS),
    "a run of OpenAI Agents": (openai_agents, ("agents", "openinference.instrumentation.openai_agents"), RUNS),
}
"""Name → what makes the program, the modules that it needs, and how often it runs in a burst."""
