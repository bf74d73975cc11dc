"""balancer.yaml and scale-out.md: several gateways behind one address, each with whole traces, none of them lost."""

from __future__ import annotations

import os
import re
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from collectors import FILES, Collector, collecting, validated
from on_disk import eventually
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from stored_runs import stored_runs, stored_steps

from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.testing import isolated_config
from tests.service.running import serve_process

TRACES = 24
STEPS = 2


class Lane(NamedTuple):
    """A gateway with a service of its own behind it, which shows what the gateway got."""

    gateway: Collector
    base: Path

    def runs(self):
        return stored_runs(self.base)


@pytest.fixture
def lanes(collector_binary, tmp_path):
    """Two of them."""
    with ExitStack() as stack:
        yield [_lane(stack, collector_binary, tmp_path / name) for name in ("one", "two")]


def _lane(stack, binary, folder):
    folder.mkdir()
    service = stack.enter_context(serve_process(folder / "service", {"TELEMETRY_DB_SYNCHRONOUS": "OFF"}))
    given = {"TELEMETRY_API_URL": service.url}
    return Lane(
        stack.enter_context(collecting(binary, folder / "gateway", "gateway.yaml", env=given)), folder / "service"
    )


@pytest.fixture
def balancer(lanes, collector_binary, tmp_path):
    """The balancer before both."""
    gateways = f"[{', '.join(lane.gateway.grpc_address for lane in lanes)}]"
    given = {"COLLECTOR_GATEWAYS": gateways}
    with collecting(collector_binary, tmp_path / "balancer", "balancer.yaml", env=given) as collector:
        yield collector


def send(url, trace_id, names):
    """One request with the spans of a run that have these names: `run`, or that of a step."""
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for name in names:
        is_run = name == "run"
        span = spans.add(trace_id=trace_id, span_id=trace_id[:8] if is_run else os.urandom(8), name=name)
        span.parent_span_id = b"" if is_run else trace_id[:8]
        span.start_time_unix_nano = time.time_ns() - 1_000_000
        span.end_time_unix_nano = time.time_ns()
    headers = {"Content-Type": "application/x-protobuf"}
    answer = httpx.post(f"{url}/v1/traces", content=request.SerializeToString(), headers=headers, timeout=60)
    answer.raise_for_status()


def send_in_parts(url):
    """Traces whose steps come before their run, each in a request of its own: their ids."""
    traces = [os.urandom(16) for _ in range(TRACES)]
    for trace_id in traces:
        for number in range(STEPS):
            send(url, trace_id, [f"step {number}"])
    for trace_id in traces:
        send(url, trace_id, ["run"])
    return {trace_id.hex() for trace_id in traces}


def test_all_spans_of_a_trace_go_through_the_same_gateway(lanes, balancer):
    """Whichever request they come in; and both gateways have work."""
    sent = send_in_parts(balancer.url)
    eventually(lambda: sum(len(lane.runs()) for lane in lanes) == TRACES)
    eventually(lambda: sum(steps for lane in lanes for steps, _ in stored_steps(lane.base).values()) == TRACES * STEPS)
    one, two = ({row["trace_id"] for row in lane.runs().values()} for lane in lanes)
    assert one
    assert two
    assert one | two == sent
    for lane in lanes:
        assert stored_steps(lane.base) == dict.fromkeys(lane.runs(), (STEPS, 0))


def test_what_a_dead_gateway_should_have_got_waits_for_it(lanes, balancer):
    """It is answered all the same, kept in the balancer's queue over its death too, and there once in the end."""
    lanes[1].gateway.kill()
    sent = send_in_parts(balancer.url)
    balancer.kill()
    balancer.start()
    lanes[1].gateway.start()
    eventually(lambda: sum(len(lane.runs()) for lane in lanes) == TRACES)
    assert {row["trace_id"] for lane in lanes for row in lane.runs().values()} == sent
    assert lanes[1].runs()


def test_a_large_request_goes_through(lanes, balancer):
    """Five megabytes of one trace: more than gRPC takes unless it is told."""
    trace_id = os.urandom(16)
    send(balancer.url, trace_id, [*(f"step {number} {'x' * 2500}" for number in range(2000)), "run"])
    eventually(lambda: any(steps == 2000 for lane in lanes for steps, _ in stored_steps(lane.base).values()))


def test_journals_and_metrics_go_through_as_well(lanes, collector_binary, balancer, tmp_path):
    """What an agent reads offline is not lost at the balancer, and what programs measure reaches Prometheus."""
    config = isolated_config(tmp_path / "base", db_synchronous="OFF")
    client = TelemetryClient(config)
    client.end_run(client.start_run("walker", "walk"))
    client.close()
    given = {"TELEMETRY_BASE_DIR": str(config.base_dir), "COLLECTOR_GATEWAY_URL": balancer.url}
    with collecting(collector_binary, tmp_path / "agent", "agent.yaml", env=given) as agent:
        send_metric(agent.url)
        taken = "otelcol_receiver_accepted_log_records_total"
        eventually(lambda: sum(of(lane.gateway, taken) for lane in lanes) == 2)
        eventually(lambda: _has(lanes, "walks_total"))
        assert "Dropping data" not in agent.log


def of(collector, name):
    """The sum of a collector's own series of a name."""
    series = collector.series(collector.own_metrics_url)
    return sum(value for key, value in series.items() if key.startswith(name))


def _has(lanes, name):
    return any(key.startswith(name) for lane in lanes for key in lane.gateway.series())


def send_metric(url):
    """One sum of a program's own."""
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="walks")
    metric.sum.is_monotonic, metric.sum.aggregation_temporality = True, 2  # cumulative
    metric.sum.data_points.add(as_int=3, time_unix_nano=time.time_ns(), start_time_unix_nano=time.time_ns() - 1)
    headers = {"Content-Type": "application/x-protobuf"}
    httpx.post(f"{url}/v1/metrics", content=request.SerializeToString(), headers=headers, timeout=60).raise_for_status()


def test_every_collector_fragment_of_the_page_is_taken_by_the_collector(collector_binary, tmp_path):
    """Those that are to be merged into a file are merged into it, as the page says."""
    page = (FILES / "scale-out.md").read_text()
    fragments = re.findall(r"```yaml\n# merged into (\S+)\n(.*?)```", page, re.DOTALL)
    assert fragments
    for number, (name, text) in enumerate(fragments):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        code, said = validated(collector_binary, f"--config={FILES / name}", f"--config={path}")
        assert code == 0, (name, said)


def test_the_balancer_is_taken_as_it_stands(collector_binary):
    """With nothing set."""
    code, said = validated(collector_binary, f"--config={FILES / 'balancer.yaml'}")
    assert code == 0, said
