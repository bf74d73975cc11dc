"""DSPy, through OpenInference."""

from __future__ import annotations

import dspy
from openinference.instrumentation.dspy import DSPyInstrumentor

EMITTER = "dspy, by OpenInference"
PACKAGES = ("dspy", "openinference-instrumentation-dspy")


def instrument(provider):
    DSPyInstrumentor().instrument(tracer_provider=provider)


def find(title: str) -> str:
    """Find a book."""
    return f"{title}: shelf 3"


def using(url):
    model = dspy.LM("openai/gpt-4o-mini", api_base=f"{url}/v1", api_key="none", cache=False, num_retries=0)
    return dspy.context(lm=model, adapter=dspy.ChatAdapter(use_json_adapter_fallback=False))


class Librarian(dspy.Module):
    def __init__(self):
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    def forward(self, question):
        return self.answer(question=question)


def module(url):
    with using(url):
        Librarian()(question="Where is it?")


def chain_of_thought(url):
    with using(url):
        dspy.ChainOfThought("question -> answer")(question="Where is it?")


def fails(url):
    with using(url):
        Librarian()(question="Please fail")


def react(url):
    with using(url):
        dspy.ReAct("question -> answer", tools=[find], max_iters=1)(question="Where is it?")


PROGRAMS = {
    "a module": module,
    "a chain of thought": chain_of_thought,
    "a model that fails": fails,
    "an agent that reasons": react,
}
