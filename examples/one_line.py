"""Record every agent of a program with one line; two agents set the attributes that frameworks set.

python examples/one_line.py && agent-telemetry runs
"""

import time

from opentelemetry import trace

import otel_agent_telemetry

otel_agent_telemetry.instrument()  # the one line

tracer = trace.get_tracer("shop")


def agent(name: str) -> dict[str, str]:
    """Return the attributes that frameworks set on the invocation of an agent."""
    return {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name}


def ask_model(tokens_in: int, tokens_out: int) -> None:
    """Make the span that instrumentations make for a model call."""
    call = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o-mini"}
    with tracer.start_as_current_span("chat gpt-4o-mini", kind=trace.SpanKind.CLIENT, attributes=call) as span:
        time.sleep(0.7)  # the duration of a model call
        span.set_attributes({"gen_ai.usage.input_tokens": tokens_in, "gen_ai.usage.output_tokens": tokens_out})


with tracer.start_as_current_span("invoke_agent buyer", attributes=agent("buyer")):
    ask_model(1200, 80)
    with tracer.start_as_current_span("invoke_agent taster", attributes=agent("taster")):  # a child run
        ask_model(300, 40)
