"""LangWatch's decorators, and OpenAI's client that it tracks."""

from __future__ import annotations

import langwatch
from openai import OpenAI

EMITTER = "LangWatch"
PACKAGES = ("langwatch", "openai")


def instrument(provider):
    langwatch.setup(api_key="none", endpoint_url="http://127.0.0.1:9", tracer_provider=provider)


@langwatch.span(type="tool")
def find(title):
    return f"{title}: shelf 3"


@langwatch.trace(name="librarian", metadata={"thread_id": "s-1"})
@langwatch.span(type="agent", name="librarian")
def librarian(url, text="Where is it?"):
    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    langwatch.get_current_trace().autotrack_openai_calls(client)
    client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": text}])
    return find("x")


def fails(url):
    librarian(url, "Please fail")


PROGRAMS = {"an agent with a tool": librarian, "a model that fails": fails}
