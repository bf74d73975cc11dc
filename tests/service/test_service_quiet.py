"""The service makes no spans of its own, whatever telemetry its process has switched on."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

from on_disk import ROOT

PROGRAM = textwrap.dedent(
    """
    import sys
    from pathlib import Path

    sys.path[:0] = ["tests", "tests/service"]
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    made = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(made))
    trace.set_tracer_provider(provider)

    from otlp_requests import PROTOBUF, request, span
    from running import running
    from service_cases import state
    from otel_agent_telemetry.testing import isolated_config

    with running(isolated_config(Path(sys.argv[1]))) as service:
        for method, path, more in (
            ("POST", "/api/v1/runs", {"json": state(1)}),
            ("POST", "/api/v1/runs/batch", {"json": [state(2)]}),
            ("POST", "/v1/traces", {"content": request(span(1)).SerializeToString(), "headers": {"Content-Type": PROTOBUF}}),
            ("GET", "/api/v1/runs", {}),
            ("GET", "/metrics", {}),
        ):
            assert service.client.request(method, path, **more).is_success, path
    with trace.get_tracer("app").start_as_current_span("the application's own"):
        pass
    print([span.name for span in made.get_finished_spans()])
    """
)


def test_a_global_tracer_provider_gets_no_span_of_the_service(tmp_path):
    """Requests, commits and reads under a recording provider: only the application's own span is there."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "base")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.strip() == '["the application\'s own"]', done.stderr
