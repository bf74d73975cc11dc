"""Portkey's client, through OpenInference: a gateway in front of a model."""

from __future__ import annotations

from openinference.instrumentation.portkey import PortkeyInstrumentor
from portkey_ai import Portkey

EMITTER = "Portkey, by OpenInference"
PACKAGES = ("portkey-ai", "openinference-instrumentation-portkey")


def instrument(provider):
    PortkeyInstrumentor().instrument(tracer_provider=provider)


def ask(url, text="Where is it?", **more):
    client = Portkey(base_url=f"{url}/v1", api_key="none", virtual_key="openai-key", max_retries=0)
    return client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": text}], **more)


def fails(url):
    ask(url, "Please fail")


def streams(url):
    for _ in ask(url, stream=True):
        pass


PROGRAMS = {"a model call": ask, "streaming": streams, "a model that fails": fails}
