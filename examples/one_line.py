"""One line records every agent of a program: here two of them, by the attributes that agent frameworks set.

python examples/one_line.py && agent-telemetry runs
"""

import time

from opentelemetry import trace

import otel_agent_telemetry

otel_agent_telemetry.instrument()  # the one line

tracer = trace.get_tracer("shop")


def agent(name: str) -> dict[str, str]:
    """What frameworks say of an agent's invocation."""
    return {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name}


def ask_model(tokens_in: int, tokens_out: int) -> None:
    """What instrumentations say of a model's call."""
    call = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o-mini"}
    with tracer.start_as_current_span("chat gpt-4o-mini", kind=trace.SpanKind.CLIENT, attributes=call) as span:
        time.sleep(0.7)  # models take their time
        span.set_attributes({"gen_ai.usage.input_tokens": tokens_in, "gen_ai.usage.output_tokens": tokens_out})


with tracer.start_as_current_span("invoke_agent buyer", attributes=agent("buyer")):
    ask_model(1200, 80)
    with tracer.start_as_current_span("invoke_agent taster", attributes=agent("taster")):  # a run inside the run
        ask_model(300, 40)
