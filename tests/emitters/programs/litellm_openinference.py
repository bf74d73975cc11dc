"""LiteLLM, through OpenInference."""

from __future__ import annotations

import litellm
from openinference.instrumentation.litellm import LiteLLMInstrumentor

EMITTER = "litellm, by OpenInference"
PACKAGES = ("litellm", "openinference-instrumentation-litellm")


def instrument(provider):
    LiteLLMInstrumentor().instrument(tracer_provider=provider)


def ask(url, text="Where is it?", **more):
    messages = [{"role": "user", "content": text}]
    return litellm.completion(
        model="openai/gpt-4o-mini", api_base=f"{url}/v1", api_key="none", messages=messages, num_retries=0, **more
    )


def fails(url):
    ask(url, "Please fail")


def streams(url):
    list(ask(url, stream=True, stream_options={"include_usage": True}))


PROGRAMS = {"a model call": ask, "a model that fails": fails, "streaming": streams}
