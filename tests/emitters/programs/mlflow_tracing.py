"""An agent traced by MLflow's decorators, whose spans it sends over OTLP: for `record_otlp.py`, in place of a model's client.

`mlflow-tracing` sends them where `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` says, in attributes that are JSON; it asks for
`OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf` and `OTEL_SERVICE_NAME` in the environment.
"""

from __future__ import annotations

import contextlib
import sys

import mlflow
from mlflow.entities import SpanType
from mlflow.tracing.constant import SpanAttributeKey

QUESTION, ANSWER = "Weather in Bern", "It is sunny"


@mlflow.trace(name="chat", span_type=SpanType.CHAT_MODEL)
def chat(question: str) -> str:
    """Answer as a model does, or fail as one."""
    span = mlflow.get_current_active_span()
    span.set_attribute(SpanAttributeKey.MODEL, "gpt-4o-mini")
    span.set_attribute(SpanAttributeKey.MODEL_PROVIDER, "openai")
    if "fail" in sys.argv:
        raise ConnectionError("429 quota exceeded")
    used = {"input_tokens": 100, "output_tokens": 7, "total_tokens": 107}
    span.set_attribute(SpanAttributeKey.CHAT_USAGE, used)
    return ANSWER if question else ""


@mlflow.trace(name="weather", span_type=SpanType.TOOL)
def weather(_place: str) -> str:
    """Return the weather."""
    return ANSWER


@mlflow.trace(name="librarian", span_type=SpanType.AGENT)
def librarian(question: str) -> str:
    """Ask the model, the tool, and the model again."""
    return chat(chat(question) + weather("Bern"))


mlflow.set_tracking_uri("http://127.0.0.1:9")  # none is there: the spans go over OTLP alone
with contextlib.suppress(ConnectionError):
    librarian(QUESTION)
mlflow.flush_trace_async_logging()
