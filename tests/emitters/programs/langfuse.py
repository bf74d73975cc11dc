"""Langfuse's own SDK, with no Langfuse."""

from __future__ import annotations

import os

os.environ |= {"LANGFUSE_PUBLIC_KEY": "none", "LANGFUSE_SECRET_KEY": "none", "LANGFUSE_HOST": "http://127.0.0.1:9"}

from langfuse import Langfuse, get_client, observe
from langfuse.openai import OpenAI

EMITTER = "langfuse"
PACKAGES = ("langfuse",)


def instrument(provider):
    Langfuse(tracer_provider=provider)


@observe(as_type="tool")
def find(title):
    return f"{title}: shelf 3"


@observe(as_type="generation")
def generate(text):
    usage = {"input": 100, "output": 7, "cache_read_input_tokens": 30}
    get_client().update_current_generation(model="gpt-4o-mini", usage_details=usage)
    return text


@observe(as_type="agent", name="librarian")
def agent(_url):
    return generate(find("x"))


@observe()
def function_with_openai(url):
    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    return client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Where is it?"}])


@observe(as_type="agent", name="librarian")
def fails(url):
    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    return client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Please fail"}])


PROGRAMS = {"an agent": agent, "a function with openai": function_with_openai, "a model that fails": fails}
