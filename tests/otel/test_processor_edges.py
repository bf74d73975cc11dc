"""The processor in an application: its failures, threads, settings, start and exit."""

from __future__ import annotations

import threading

import pytest
from on_disk import journal_lines, rows_of, run_python
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

from otel_agent_telemetry import AgentRunSpanProcessor, TelemetryClient
from otel_agent_telemetry.delivery.suppress_instrumentation import suppress_instrumentation
from otel_agent_telemetry.testing import MemoryRecorder, isolated_config


class Failing(MemoryRecorder):
    """A recorder of ours that breaks at every record."""

    def _store(self, line, now_ns, **_kept):
        raise RuntimeError("ours")


def test_our_own_failures_never_reach_the_application(tmp_path, caplog):
    """The user's block runs, its exceptions are its own; ours are counted and logged once."""
    recorder = Failing(isolated_config(tmp_path))
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(AgentRunSpanProcessor(recorder=recorder))
    tracer = provider.get_tracer("app")
    ran = []

    for _ in range(3):
        with tracer.start_as_current_span("root") as span:
            span.add_event("e")
            with tracer.start_as_current_span("step"):
                ran.append(1)
    with pytest.raises(KeyError), tracer.start_as_current_span("root"):
        raise KeyError

    assert len(ran) == 3
    assert recorder.counters.internal_errors >= 9
    assert len([record for record in caplog.records if "span start failed" in record.getMessage()]) == 1


def test_suppressed_instrumentation_is_honoured(captured, tracer):
    """Spans of a suppressed context are no runs and no steps."""
    with suppress_instrumentation():
        tracer.start_span("hidden").end()
    with tracer.start_as_current_span("root"), suppress_instrumentation(), tracer.start_as_current_span("hidden"):
        pass

    assert [run.job_type for run in captured.runs] == ["root"]
    assert captured.spans == []


def test_dropped_spans_are_not_seen(tmp_path):
    """A sampler's decision stands for plain spans."""
    recorder = MemoryRecorder(isolated_config(tmp_path))
    provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF), shutdown_on_exit=False)
    provider.add_span_processor(AgentRunSpanProcessor(recorder=recorder))
    with provider.get_tracer("app").start_as_current_span("root") as span:
        span.add_event("e")

    assert recorder.states == recorder.events == []


def test_two_processors_of_one_configuration_record_once(config):
    """Added by hand and once more by a client, or twice by hand: one run, one event, one end."""
    provider = TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)
    for _ in range(2):
        provider.add_span_processor(AgentRunSpanProcessor(config))
    client = TelemetryClient(config, tracer_provider=provider)
    with client.track_run("agent", "job", run_id="mine") as run:
        run.log_event("e")
        with provider.get_tracer("app").start_as_current_span("step"):
            pass
    with provider.get_tracer("app").start_as_current_span("plain"):
        pass

    assert run.run_id == "mine"
    assert [line["status"] for line in journal_lines(config, "run")] == ["running", "success"] * 2
    assert len(journal_lines(config, "event")) == 1
    assert len(journal_lines(config, "span")) == 2


def test_processor_without_arguments_takes_the_environment(agent_telemetry_base):
    """As any entry point needs it."""
    processor = AgentRunSpanProcessor()

    assert processor.config.base_dir == agent_telemetry_base


def test_flush_and_shutdown_of_the_provider(config):
    """`force_flush` delivers and says so; after `shutdown`, twice, later spans are still kept."""
    provider = TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)
    provider.add_span_processor(AgentRunSpanProcessor(config))
    tracer = provider.get_tracer("app")
    tracer.start_span("one").end()
    assert provider.force_flush(10_000)
    assert len(rows_of(config)) == 1

    provider.shutdown()
    provider.shutdown()
    tracer.start_span("two").end()
    assert provider.force_flush(10_000)
    assert len(rows_of(config)) == 2


def test_many_threads_record_many_runs(captured, tracer):
    """Ten threads, two hundred runs each with an event and a step: all there, none mixed."""

    def work(thread):
        for number in range(200):
            with tracer.start_as_current_span("root", attributes={"agent.run.id": f"{thread}-{number}"}) as span:
                span.add_event("mine", {"of": f"{thread}-{number}"})
                with tracer.start_as_current_span("step", attributes={"of": f"{thread}-{number}"}):
                    pass

    threads = [threading.Thread(target=work, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {run.run_id: run.status for run in captured.runs} == {
        f"{t}-{n}": "success" for t in range(10) for n in range(200)
    }
    assert all(event.payload["of"] == event.run_id for event in captured.events)
    assert all(step.attributes["of"] == step.run_id for step in captured.spans)
    assert len(captured.events) == len(captured.spans) == 2000


def test_nothing_is_remembered_of_ended_spans(captured, tracer):
    """Open spans and runs are forgotten at their end: memory does not grow with runs."""
    for _ in range(50):
        with tracer.start_as_current_span("root"), tracer.start_as_current_span("step"):
            pass

    assert len(captured.recorder.active.open_spans) == 0
    assert len(captured.recorder.active) == 0


def test_import_and_construction_start_nothing(config):
    """No thread, no folder, until the first record (invariant 9)."""
    before = threading.active_count()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(AgentRunSpanProcessor(config))

    assert threading.active_count() == before
    assert not config.base_dir.exists()


CLOCK = """
import sys, time
from otel_agent_telemetry import AgentRunSpanProcessor
from opentelemetry.sdk.trace import TracerProvider
provider = TracerProvider()
provider.add_span_processor(AgentRunSpanProcessor())
tracer = provider.get_tracer("app")
open_one = tracer.start_span("left open", attributes={"agent.run.id": "open"})
with tracer.start_as_current_span("done", attributes={"agent.run.id": "done"}):
    pass
"""


def test_plain_script_needs_no_shutdown(config):
    """At the interpreter's exit open runs are failed with a sentence and everything is delivered."""
    run_python(CLOCK, env={"TELEMETRY_BASE_DIR": str(config.base_dir), "TELEMETRY_EXIT_TIMEOUT_S": "60"})

    rows = rows_of(config)
    assert rows["done"]["status"] == "success"
    assert (rows["open"]["status"], rows["open"]["error_summary"]) == (
        "failed", "the process exited while the run was still open",
    )  # fmt: skip
