"""Google's GenAI client, through OpenInference."""

from __future__ import annotations

from google import genai
from google.genai.types import GenerateContentConfig, HttpOptions
from openinference.instrumentation.google_genai import GoogleGenAIInstrumentor

EMITTER = "google-genai, by OpenInference"
PACKAGES = ("google-genai", "openinference-instrumentation-google-genai")


def instrument(provider):
    GoogleGenAIInstrumentor().instrument(tracer_provider=provider)


def find(title: str) -> str:
    """Find a book."""
    return f"{title}: shelf 3"


def client(url):
    return genai.Client(api_key="none", http_options=HttpOptions(base_url=url))


def tool_call(url):
    config = GenerateContentConfig(tools=[find])
    with client(url) as asked:
        asked.models.generate_content(model="gemini-2.5-flash", contents="Where is it?", config=config)


def streams(url):
    with client(url) as asked:
        for _ in asked.models.generate_content_stream(model="gemini-2.5-flash", contents="Where is it?"):
            pass


def fails(url):
    with client(url) as asked:
        asked.models.generate_content(model="gemini-2.5-flash", contents="Please fail")


PROGRAMS = {"a tool call": tool_call, "streaming": streams, "a model that fails": fails}
