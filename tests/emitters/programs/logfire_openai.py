"""Logfire's own spans around OpenAI's client."""

from __future__ import annotations

import logfire
from openai import OpenAI

EMITTER = "logfire with openai"
PACKAGES = ("logfire", "openai")


def instrument(provider):
    logfire.configure(send_to_logfire=False, console=False)
    for processor in provider._active_span_processor._span_processors:
        logfire.DEFAULT_LOGFIRE_INSTANCE.config.get_tracer_provider().add_span_processor(processor)
    logfire.instrument_openai()


def ask(url, text, **more):
    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    return client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": text}], **more)


def one_call(url):
    with logfire.span("answer {name}", name="somebody"):
        ask(url, "Where is it?")


def fails(url):
    with logfire.span("answer {name}", name="somebody"):
        ask(url, "Please fail")


def streams(url):
    with logfire.span("answer {name}", name="somebody"):
        for _ in ask(url, "Where is it?", stream=True, stream_options={"include_usage": True}):
            pass


def bare_call(url):
    ask(url, "Where is it?")


PROGRAMS = {
    "a model call in a span": one_call,
    "a model that fails": fails,
    "streaming": streams,
    "a model call by itself": bare_call,
}
