"""OpenAI's client, through OpenInference."""

from __future__ import annotations

from openai import OpenAI
from openinference.instrumentation.openai import OpenAIInstrumentor
from opentelemetry import trace

EMITTER = "openai, by OpenInference"
PACKAGES = ("openai", "openinference-instrumentation-openai")


def instrument(provider):
    OpenAIInstrumentor().instrument(tracer_provider=provider)


def client(url):
    return OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def ask(url, text="Where is it?", **more):
    return client(url).chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": text}], **more
    )


def in_a_span(url):
    with trace.get_tracer("app").start_as_current_span("answer"):
        ask(url)
        client(url).embeddings.create(model="text-embedding-3-small", input="Where is it?")


def response(url):
    client(url).responses.create(model="gpt-4o-mini", input="Where is it?")


def streams(url):
    list(ask(url, stream=True, stream_options={"include_usage": True}))


def fails(url):
    ask(url, "Please fail")


PROGRAMS = {
    "a model call": ask,
    "a model call and an embedding in a span": in_a_span,
    "a response": response,
    "streaming": streams,
    "a model that fails": fails,
}
