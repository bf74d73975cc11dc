"""Each file of collector-config/ is valid, starts, and does what its comments say."""

from __future__ import annotations

import os
import re
import stat

import pytest
from collectors import FILES, validated
from on_disk import eventually
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from sockets import listening
from stored_runs import stored_runs
from streaming import client_of, new_ids, one_run, send, text

from tests.service.running import serve_process
from tests.service.writing_agents import quiet_port

README = FILES / "README.md"
PIPELINES = ["agent.yaml", "gateway.yaml", "local.yaml"]


@pytest.mark.parametrize("name", PIPELINES)
def test_file_is_valid_as_it_is(collector_binary, name):
    """Without any variable set, by the collector's own check."""
    assert validated(collector_binary, f"--config={FILES / name}") == (0, "")


def test_check_of_a_wrong_file_fails(collector_binary, tmp_path):
    """So the check above can fail: a backend that is none of the exporters."""
    code, said = validated(
        collector_binary, f"--config={FILES / 'gateway.yaml'}", env={"COLLECTOR_BACKEND": "otlp_http/nobody"}
    )
    assert code != 0
    assert "otlp_http/nobody" in said


@pytest.mark.parametrize("name", PIPELINES)
def test_everything_is_on_loopback_and_private(collect, name):
    """By default and when it runs; what waits on disk is its owner's alone."""
    hosts = re.findall(r":-(?:http://)?(\d+\.[\d.]+)", (FILES / name).read_text())
    assert set(hosts) == {"127.0.0.1"}

    collector = collect(name)
    addresses = listening(collector.popen.pid)
    assert len(addresses) >= 4
    assert {address for address, _ in addresses} == {"127.0.0.1"}
    assert stat.S_IMODE(os.stat(collector.folder / "state").st_mode) == 0o700


@pytest.mark.parametrize("name", ["gateway.yaml", "local.yaml"])
def test_span_metrics_have_the_names_that_dashboards_ask_for(collect, shared_service, name):
    """Counted before sampling, with the dimensions of runs."""
    collector = collect(name, TELEMETRY_API_URL=shared_service.url, COLLECTOR_SAMPLED_PERCENT="0")
    with client_of(collector) as client:
        for _ in range(3):
            marks = [text("agent.run.agent_name", "streamer"), text("agent.run.status", "success")]
            assert send(client, one_run(*new_ids(), attributes=marks))
    calls, _, _ = (
        eventually(lambda name=name: of_the_runs(collector, f"traces_span_metrics_{name}", value=3))
        for name in ("calls_total", "duration_milliseconds_count", "duration_milliseconds_bucket")
    )
    for part in ('gen_ai_operation_name="invoke_agent"', 'agent_run_status="success"', 'span_kind="SPAN_KIND_', "job="):
        assert part in calls


def of_the_runs(collector, metric, *, value):
    """The first series of a metric that shows the runs with this value; None when there is none."""
    found = (name for name, shown in collector.series().items() if name.startswith(metric) and shown == value)
    return next((name for name in found if 'agent_run_agent_name="streamer"' in name), None)


def test_spans_over_grpc_become_runs(collect, shared_service, shared_base):
    """The other protocol of OTLP, by the official exporter."""
    collector = collect("local.yaml", TELEMETRY_API_URL=shared_service.url)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(collector.grpc_address, insecure=True)))
    provider.get_tracer("app").start_span("over gRPC").end()
    provider.shutdown()
    eventually(lambda: "over gRPC" in {row["job_type"] for row in stored_runs(shared_base).values()})


def test_backend_that_takes_grpc_alone(collect, shared_service, tmp_path):
    """Another service's gRPC port stands for it."""
    port = quiet_port()
    with serve_process(tmp_path / "backend", {"TELEMETRY_OTLP_GRPC_PORT": str(port)}):
        gateway = collect(
            "gateway.yaml",
            TELEMETRY_API_URL=shared_service.url,
            COLLECTOR_BACKEND="otlp_grpc/backend",
            COLLECTOR_BACKEND_URL=f"127.0.0.1:{port}",
            COLLECTOR_BACKEND_INSECURE="true",
        )
        with client_of(gateway) as client:
            assert send(client, one_run(*new_ids()))
        eventually(lambda: len(stored_runs(tmp_path / "backend")) == 1)


def test_metrics_of_programs_reach_prometheus(collect):
    """Over agent and gateway, under the names that Prometheus gives them."""
    gateway = collect("gateway.yaml")
    agent = collect("agent.yaml", COLLECTOR_GATEWAY_URL=gateway.url)
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{agent.url}/v1/metrics"))
    meters = MeterProvider([reader], shutdown_on_exit=False)
    meters.get_meter("app").create_histogram("agent.run.duration", unit="s").record(
        2.5, {"agent.run.status": "success"}
    )
    meters.shutdown()
    wanted = 'agent_run_duration_seconds_sum{agent_run_status="success"'
    eventually(lambda: 2.5 in [value for name, value in gateway.series().items() if name.startswith(wanted)])


def test_readme_names_every_variable_and_no_other():
    """As many as the files read."""
    used = {name for file in PIPELINES for name in re.findall(r"\${env:(\w+)", (FILES / file).read_text())} - {"HOME"}
    assert set(re.findall(r"^\| `([A-Z_]+)`", README.read_text(), re.MULTILINE)) == used


def test_readme_has_files_that_can_be_given_after_the_gateways(collector_binary, tmp_path):
    """Each piece of YAML in it, as it stands there."""
    pieces = re.findall(r"^( *)```yaml\n(.*?)^ *```$", README.read_text(), re.MULTILINE | re.DOTALL)
    assert len(pieces) == 2
    for number, (indent, piece) in enumerate(pieces):
        more = tmp_path / f"{number}.yaml"
        more.write_text(re.sub(f"^{indent}", "", piece, flags=re.MULTILINE))
        assert validated(collector_binary, f"--config={FILES / 'gateway.yaml'}", f"--config={more}") == (0, "")
