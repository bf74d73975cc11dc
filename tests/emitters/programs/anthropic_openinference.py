"""Anthropic's client, through OpenInference."""

from __future__ import annotations

from anthropic import Anthropic
from openinference.instrumentation.anthropic import AnthropicInstrumentor

EMITTER = "anthropic, by OpenInference"
PACKAGES = ("anthropic", "openinference-instrumentation-anthropic")


def instrument(provider):
    AnthropicInstrumentor().instrument(tracer_provider=provider, skip_dep_check=True)


def ask(url, text="Where is it?"):
    client = Anthropic(base_url=url, api_key="none", max_retries=0)
    client.messages.create(model="claude-sonnet-4-5", max_tokens=10, messages=[{"role": "user", "content": text}])


def fails(url):
    ask(url, "Please fail")


PROGRAMS = {"a model call": ask, "a model that fails": fails}
