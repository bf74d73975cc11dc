"""Our own HTTP and SQL make no spans (invariant 9)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import context as otel_context
from opentelemetry.context import _SUPPRESS_HTTP_INSTRUMENTATION_KEY, _SUPPRESS_INSTRUMENTATION_KEY

SUPPRESS_INSTRUMENTATION = _SUPPRESS_INSTRUMENTATION_KEY
"""The key that is set in a context in which nothing is instrumented."""


@contextmanager
def suppress_instrumentation() -> Iterator[None]:
    """Suppress instrumentation for what runs inside, in this thread."""
    context = otel_context.set_value(SUPPRESS_INSTRUMENTATION, value=True)
    context = otel_context.set_value(_SUPPRESS_HTTP_INSTRUMENTATION_KEY, value=True, context=context)
    token = otel_context.attach(context)
    try:
        yield
    finally:
        otel_context.detach(token)
