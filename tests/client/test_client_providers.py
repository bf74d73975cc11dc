"""Clients beside the providers of an application, and beside each other."""

from __future__ import annotations

import pytest
from on_disk import Process, journal_lines, rows_of, run_python
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult

from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.delivery.suppress_instrumentation import suppress_instrumentation
from otel_agent_telemetry.testing import isolated_config


def test_sampler_that_drops_everything_loses_no_run(tmp_path):
    """An application that samples 0 % still has its runs: our own provider records them."""
    provider = TracerProvider(sampler=ALWAYS_OFF, resource=Resource.get_empty(), shutdown_on_exit=False)
    client = TelemetryClient(isolated_config(tmp_path / "b", db_synchronous="OFF"), tracer_provider=provider)

    with client.track_run("outer", "job", run_id="outer") as run:
        run.log_event("e")
        with client.track_run("inner", "job", run_id="inner"):
            pass
    assert client.flush(10)

    rows = rows_of(client.config)
    assert {name: (row["status"], row["parent_run_id"]) for name, row in rows.items()} == {
        "outer": ("success", None), "inner": ("success", "outer"),
    }  # fmt: skip


class DropInner(Sampler):
    def should_sample(self, parent_context, trace_id, name, *args, **kwargs):
        return SamplingResult(Decision.DROP if "inner" in name else Decision.RECORD_AND_SAMPLE)

    def get_description(self):
        return "drops inner spans"


def test_parent_is_known_across_providers(tmp_path):
    """The outer run on the application's provider, the inner one dropped there and recorded on ours."""
    provider = TracerProvider(sampler=DropInner(), resource=Resource.get_empty(), shutdown_on_exit=False)
    client = TelemetryClient(isolated_config(tmp_path / "b", db_synchronous="OFF"), tracer_provider=provider)

    with client.track_run("outer", "job", run_id="outer"), client.track_run("inner", "job", run_id="inner"):
        pass
    assert client.flush(10)

    assert rows_of(client.config)["inner"]["parent_run_id"] == "outer"


class VendorProvider:
    """A vendor's own class: tracers, but no processors."""

    __slots__ = ()

    def get_tracer(self, *args, **kwargs):
        return trace.NoOpTracer()


@pytest.mark.parametrize(
    "provider", [VendorProvider(), object(), trace.NoOpTracerProvider(), 5], ids=lambda p: type(p).__name__
)
def test_provider_without_processors_leaves_us_our_own(tmp_path, provider):
    """Nothing is replaced, nothing raises, the run is recorded."""
    client = TelemetryClient(isolated_config(tmp_path / "b", db_synchronous="OFF"), tracer_provider=provider)

    with client.track_run("agent", "job", run_id="mine"):
        pass
    assert client.flush(10)


class Unhashable(TracerProvider):
    __hash__ = None


def test_provider_that_cannot_be_remembered(tmp_path):
    """An unhashable subclass of the SDK's: still a run, still once."""
    provider = Unhashable(resource=Resource.get_empty(), shutdown_on_exit=False)
    config = isolated_config(tmp_path / "b", db_synchronous="OFF")
    for number in range(2):
        client = TelemetryClient(config, tracer_provider=provider)
        client.end_run(client.start_run("agent", "job", run_id=f"r{number}"))
    assert client.flush(10)

    assert sorted(rows_of(config)) == ["r0", "r1"]


def test_two_configurations_on_one_provider_do_not_mix(tmp_path):
    """Each client's runs are in its own place, and only there."""
    provider = TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)
    clients = [
        TelemetryClient(isolated_config(tmp_path / name, db_synchronous="OFF"), tracer_provider=provider)
        for name in "ab"
    ]
    for client, name in zip(clients, "ab", strict=True):
        client.end_run(client.start_run("agent", "job", run_id=name))
        assert client.flush(10)

    assert [sorted(rows_of(client.config)) for client in clients] == [["a"], ["b"]]


def test_clients_of_one_configuration_share_everything(tmp_path):
    """Fifty clients: one processor, one recorder, one writer; one run can be seen from all."""
    config = isolated_config(tmp_path / "b", db_synchronous="OFF")
    clients = [TelemetryClient(config) for _ in range(50)]
    run_id = clients[0].start_run("agent", "job", run_id="shared")
    clients[1].log_event(run_id, "event")
    clients[2].end_run(run_id)

    assert len({id(client._recorder) for client in clients}) == 1
    assert clients[3].get_run_id_metrics()["run_id_metrics"]["total_runs"] == 1
    assert len(list(config.buffer_dir.glob("*.lock"))) <= 2


def test_explicit_runs_are_recorded_in_a_suppressed_context(client, captured):
    """Suppressed instrumentation silences spans of libraries, not what an application asks for by name."""
    with suppress_instrumentation():
        run_id = client.start_run("agent", "job")
        client.end_run(run_id)

    assert captured.run(run_id).status == "success"


GLOBAL = """
import json, sys
from opentelemetry import trace
kind, base = sys.argv[1:]
if kind != "proxy":
    from opentelemetry.sdk.trace import TracerProvider
    if kind == "sdk":
        trace.set_tracer_provider(TracerProvider())
    else:
        class Vendor(trace.TracerProvider):
            def get_tracer(self, *args, **kwargs):
                return trace.NoOpTracer()
        trace.set_tracer_provider(Vendor())
before = trace.get_tracer_provider()
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
with client.track_run("agent", "job", run_id="explicit"):
    with trace.get_tracer("app").start_as_current_span("step"):
        pass
with trace.get_tracer("app").start_as_current_span("plain"):
    pass
assert trace.get_tracer_provider() is before
assert client.flush(10)
client.close()
"""


@pytest.mark.parametrize(
    ("kind", "runs", "steps"),
    [("sdk", ["explicit", "plain"], 1), ("proxy", ["explicit"], 0), ("vendor", ["explicit"], 0)],
)
def test_global_provider_is_used_where_it_can_be_and_never_replaced(config, kind, runs, steps):
    """With the SDK's, plain root spans are runs and children steps; with a proxy or a vendor's only ours are."""
    run_python(GLOBAL, kind, config.base_dir, env={"TELEMETRY_BASE_DIR": str(config.base_dir)})

    rows = rows_of(config)
    assert sorted(row["job_type"] if row["run_id"] != "explicit" else "explicit" for row in rows.values()) == runs
    assert len({line["span_id"] for line in journal_lines(config, "span")}) == steps


DISABLED = """
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
run_id = client.start_run("agent", "job", run_id="mine")
assert run_id == "mine"
with client.track_run("agent", "job") as run:
    run.log_event("e", {"a": 1})
    run.set_metrics(items_failed=1)
client.log_event(run_id, "e")
client.end_run(run_id)
client.associate_commit("mine", "abcdef1", "ci")
assert client.flush(1)
client.close()
"""


def test_otel_sdk_disabled_records_nothing(config):
    """OTEL_SDK_DISABLED=true: every call works, nothing is printed, no file appears."""
    env = {"TELEMETRY_BASE_DIR": str(config.base_dir), "OTEL_SDK_DISABLED": "true"}
    with Process(DISABLED, env=env) as process:
        status, out, err = process.end()

    assert (status, out, err) == (0, "", "")
    assert not config.base_dir.exists()
