"""OpenAI's and Anthropic's clients, through OpenLIT."""

from __future__ import annotations

import openlit
from openai import OpenAI

from tests.emitters.programs import anthropic_openinference

EMITTER = "openai and anthropic, by OpenLIT"
PACKAGES = ("openlit", "openai", "anthropic")


def instrument(_provider):
    openlit.init(disable_metrics=True)


def ask(url, text="Where is it?", **more):
    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    return client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": text}], **more)


def fails(url):
    ask(url, "Please fail")


def streams(url):
    list(ask(url, stream=True, stream_options={"include_usage": True}))


PROGRAMS = {
    "a model call": ask,
    "a model that fails": fails,
    "streaming": streams,
    "a call of anthropic": anthropic_openinference.ask,
}
