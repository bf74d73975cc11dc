"""Traceloop's decorators around OpenAI's client, instrumented."""

from __future__ import annotations

from openai import OpenAI
from opentelemetry.instrumentation.openai import OpenAIInstrumentor
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from traceloop.sdk import Traceloop
from traceloop.sdk.decorators import agent, task, tool, workflow

EMITTER = "traceloop"
PACKAGES = ("traceloop-sdk", "opentelemetry-instrumentation-openai")


def instrument(provider):
    to_nowhere = SimpleSpanProcessor(InMemorySpanExporter())
    Traceloop.init(app_name="app", processor=to_nowhere, disable_batch=True, telemetry_enabled=False, instruments=set())
    OpenAIInstrumentor().instrument(tracer_provider=provider)


@tool(name="find")
def find(title):
    return f"{title}: shelf 3"


@task(name="ask")
def ask(url, text, **more):
    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    answer = client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": text}], **more)
    return list(answer) if more else answer


@agent(name="librarian")
def librarian(url, text, **more):
    find("x")
    return ask(url, text, **more)


@workflow(name="desk")
def answered(url, text="Where is it?", **more):
    return librarian(url, text, **more)


def fails(url):
    answered(url, "Please fail")


def streams(url):
    answered(url, stream=True, stream_options={"include_usage": True})


PROGRAMS = {"a workflow with an agent": answered, "a model that fails": fails, "streaming": streams}
