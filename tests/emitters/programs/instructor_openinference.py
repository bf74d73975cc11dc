"""Instructor over OpenAI's client, through OpenInference: an answer that has a shape, asked for until it has."""

from __future__ import annotations

import instructor
from openai import OpenAI
from openinference.instrumentation.instructor import InstructorInstrumentor
from openinference.instrumentation.openai import OpenAIInstrumentor
from pydantic import BaseModel

EMITTER = "Instructor, by OpenInference"
PACKAGES = ("instructor", "openinference-instrumentation-instructor", "openinference-instrumentation-openai")


class Book(BaseModel):
    """Where a book is."""

    title: str


def instrument(provider):
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    InstructorInstrumentor().instrument(tracer_provider=provider)


def ask(url, text="Where is it?"):
    client = instructor.from_openai(OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0))
    client.chat.completions.create(
        model="gpt-4o-mini", response_model=Book, max_retries=0, messages=[{"role": "user", "content": text}]
    )


def fails(url):
    ask(url, "Please fail")


PROGRAMS = {"a model call": ask, "a model that fails": fails}
