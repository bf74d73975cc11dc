"""A program that uses the OpenTelemetry API and does not import this package.

Each of these commands records its runs:

OTEL_PYTHON_TRACER_PROVIDER=agent_runs python examples/no_code.py
opentelemetry-instrument python examples/no_code.py
OTEL_TRACES_EXPORTER=agent_runs,otlp opentelemetry-instrument python examples/no_code.py
"""

from opentelemetry import trace

tracer = trace.get_tracer("letters")

with tracer.start_as_current_span("sort letters") as root:
    for box in ("bills", "postcards"):
        with tracer.start_as_current_span(f"sort {box}"):
            root.add_event("sorted", {"box": box})
