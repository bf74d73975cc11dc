"""Record the runs of an application that traces with OpenTelemetry, with one line.

The root span becomes a run, its events become the run's events, its child spans the run's steps.

    python examples/plain_opentelemetry.py && agent-telemetry runs
"""

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from otel_agent_telemetry import AgentRunSpanProcessor

provider = TracerProvider(resource=Resource.create({"service.name": "invoice-reader"}))
provider.add_span_processor(AgentRunSpanProcessor())  # the one line
trace.set_tracer_provider(provider)

tracer = trace.get_tracer("invoices")

with tracer.start_as_current_span("read invoices", attributes={"agent.run.id": "invoices-2026-11"}) as root:
    for number in range(3):
        with tracer.start_as_current_span("read one", attributes={"invoice.number": number}):
            root.add_event("invoice read", {"number": number, "pages": number + 1})
    root.set_attribute("agent.run.items_succeeded", 3)
