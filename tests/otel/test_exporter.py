from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from on_disk import journal_lines, rows_of
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags

from otel_agent_telemetry import AgentRunSpanExporter, AgentRunSpanProcessor
from otel_agent_telemetry.run_id import span_event_id_without_start
from otel_agent_telemetry.testing import MemoryRecorder, capture_runs, isolated_config
from tests.otel.span_trees import record_tree, shape_of, traces


class Doors:
    """One application, recorded live through one recorder and by the exporter through another."""

    def __init__(self, folder, **settings):
        config = isolated_config(folder, **settings)
        self.live, self.exported = MemoryRecorder(config), MemoryRecorder(config)
        self.provider = TracerProvider(resource=Resource({"service.name": "svc"}), shutdown_on_exit=False)
        self.provider.add_span_processor(AgentRunSpanProcessor(recorder=self.live))
        self.spans = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self.spans))
        self.tracer = self.provider.get_tracer("app")

    def export(self):
        """Everything that has ended so far, in one batch, as a batch processor would."""
        assert (
            AgentRunSpanExporter(recorder=self.exported).export(self.spans.get_finished_spans())
            is SpanExportResult.SUCCESS
        )
        self.spans.clear()

    def rows(self):
        """The last states of both, without what must differ: when the states were written."""
        return [
            {
                state.event_id: {
                    name: value for name, value in state.to_fields().items() if name not in ("created_at", "updated_at")
                }
                for state in recorder.states
            }
            for recorder in (self.live, self.exported)
        ]


@pytest.fixture
def doors(tmp_path):
    return Doors(tmp_path)


RUNS = 11


def work(tracer):
    """Every kind of run in one go."""
    with tracer.start_as_current_span("fine", attributes={"agent.run.items_succeeded": 3, "x": 1}) as span:
        span.set_attribute("agent.run.duration_ms", 86_400_000)
        span.add_event("checkpoint", {"n": 1, "password": "p"})
        with tracer.start_as_current_span("step", attributes={"y": 2}):
            pass
    for problem in (ValueError("bad"), TimeoutError("slow")):
        with pytest.raises(type(problem)), tracer.start_as_current_span("raising"):
            raise problem
    with tracer.start_as_current_span("described") as span:
        span.set_status(Status(StatusCode.ERROR, "quota"))
    for said in ("partial", "ok", "Canceled", "nonsense", "running"):
        with tracer.start_as_current_span("said", attributes={"agent.run.status": said}) as span:
            span.set_attribute("agent.run.error_summary", "told")
    with (
        tracer.start_as_current_span("outer", attributes={"agent.run.id": "outer"}),
        tracer.start_as_current_span("between"),
    ):
        with tracer.start_as_current_span("inner", attributes={"gen_ai.operation.name": "invoke_agent"}):
            pass


def test_both_doors_end_in_the_same_rows(doors):
    """Invariant 2: ids, columns, statuses, parents and errors agree, whichever way a span took."""
    work(doors.tracer)
    doors.export()

    live, exported = doors.rows()
    assert exported == live
    assert len(live) == RUNS


def test_both_doors_keep_the_same_events_and_steps(doors):
    """The same payloads, masked, under the same ids."""
    work(doors.tracer)
    doors.export()

    events = [
        sorted(
            (event.event_id, event.run_id, event.span_id, event.event_type, repr(event.payload))
            for event in recorder.events
        )
        for recorder in (doors.live, doors.exported)
    ]
    assert events[0] == events[1]
    steps = [{step.span_id: step for step in recorder.spans} for recorder in (doors.live, doors.exported)]
    assert steps[0] == steps[1]
    assert len(steps[0]) == 2
    assert "'p'" not in repr(doors.exported.events)


def test_a_run_id_is_the_same_through_both_doors(tmp_path):
    """Generated from the span's own instant and id; also where no processor has set it on the span."""
    spans = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    with provider.get_tracer("app").start_as_current_span("root"):
        pass
    recorders = [MemoryRecorder(isolated_config(tmp_path)) for _ in range(2)]
    for recorder in recorders:
        AgentRunSpanExporter(recorder=recorder).export(spans.get_finished_spans())

    one, other = (recorder.states[0] for recorder in recorders)
    assert one.run_id == other.run_id
    assert one.run_id.endswith(one.event_id[:8])


def test_any_order_of_a_batch_gives_the_same(tmp_path):
    """Children come before their parents, or after them."""
    spans = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    tracer = provider.get_tracer("app")
    with (
        tracer.start_as_current_span("outer", attributes={"agent.run.id": "outer"}),
        tracer.start_as_current_span("step") as step,
    ):
        step.add_event("e")
        with tracer.start_as_current_span("inner", attributes={"agent.run.id": "inner"}):
            pass
    seen = set()
    for order in itertools.permutations(spans.get_finished_spans()):
        recorder = MemoryRecorder(isolated_config(tmp_path))
        AgentRunSpanExporter(recorder=recorder).export(order)
        seen.add(
            (
                tuple(sorted((run.run_id, run.parent_run_id or "") for run in recorder.states)),
                tuple((found.name, found.run_id) for found in recorder.spans),
                tuple((event.event_type, event.run_id) for event in recorder.events),
            )
        )

    assert seen == {((("inner", "outer"), ("outer", "")), (("step", "outer"),), (("e", "outer"),))}


@pytest.mark.parametrize("which", ["root", "agents", "marked"])
def test_runs_setting_counts_here_too(tmp_path, which):
    """The same spans are runs through both doors."""
    doors = Doors(tmp_path, runs=which)
    work(doors.tracer)
    doors.tracer.start_span("agent", attributes={"openinference.span.kind": "AGENT"}).end()
    doors.export()

    live, exported = doors.rows()
    assert exported == live


def test_remote_parents_count_here_too(doors):
    """A span below another service's is a run only when it says so."""
    remote = trace.set_span_in_context(NonRecordingSpan(SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1))))
    doors.tracer.start_span("request", context=remote).end()
    doors.tracer.start_span("marked", context=remote, attributes={"agent.run.product": "p"}).end()
    doors.export()

    live, exported = doors.rows()
    assert exported == live
    assert [row["job_type"] for row in live.values()] == ["marked"]


def test_exporter_beside_the_processor_adds_nothing(config):
    """Both in one process and of one configuration: what was recorded live is left alone."""
    provider = TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)
    provider.add_span_processor(AgentRunSpanProcessor(config))
    provider.add_span_processor(BatchSpanProcessor(AgentRunSpanExporter(config)))
    work(provider.get_tracer("app"))
    assert provider.force_flush(10_000)
    provider.shutdown()

    lines = journal_lines(config, "run")
    assert len([line for line in lines if line["status"] != "running"]) == RUNS
    assert len(rows_of(config)) == RUNS
    assert len([line for line in journal_lines(config, "event") if line["event_type"] == "checkpoint"]) == 1


def test_exporter_alone_keeps_runs(config):
    """Without any processor of ours the runs are in the database after a flush."""
    provider = TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(AgentRunSpanExporter(config)))
    work(provider.get_tracer("app"))
    assert provider.force_flush(10_000)
    provider.shutdown()

    assert len(rows_of(config)) == RUNS
    assert rows_of(config)["outer"]["status"] == "success"


def test_a_step_waits_for_its_run_in_another_batch(doors):
    """Batch processors send children of a long run before it, in any number of batches."""
    exporter = AgentRunSpanExporter(recorder=doors.exported)
    root = doors.tracer.start_span("root")
    doors.tracer.start_span("step", context=trace.set_span_in_context(root)).end()
    exporter.export(doors.spans.get_finished_spans())
    assert doors.exported.spans == []
    root.end()
    exporter.export(doors.spans.get_finished_spans())

    assert [step.name for step in doors.exported.spans] == ["step"]
    assert len(doors.exported.states) == 1


def test_an_agent_whose_parent_never_comes_is_recorded_at_a_flush(doors):
    """Its parent was not sampled, or belongs to another provider."""
    parent = trace.set_span_in_context(NonRecordingSpan(SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1))))
    doors.tracer.start_span("agent", context=parent, attributes={"gen_ai.operation.name": "invoke_agent"}).end()
    exporter = AgentRunSpanExporter(recorder=doors.exported)
    exporter.export(doors.spans.get_finished_spans())
    assert doors.exported.states == []
    exporter.force_flush()

    assert [run.parent_run_id for run in doors.exported.states] == [None]


def test_spans_below_one_that_never_ends_are_a_run_when_the_exporter_is_shut_down(doors):
    """Not at a flush: until then it may still end."""
    exporter = AgentRunSpanExporter(recorder=doors.exported)
    root = doors.tracer.start_span("turn")
    with trace.use_span(root), doors.tracer.start_as_current_span("step") as step:
        step.set_status(Status(StatusCode.ERROR, "429 slow down"))
    exporter.export(doors.spans.get_finished_spans())
    assert exporter.force_flush()
    assert doors.exported.states == []
    exporter.shutdown()
    exporter.shutdown()
    (run,) = doors.exported.states
    assert (run.status, run.job_type, run.agent_name) == ("failed", "step", "svc")
    assert run.error_summary == "its root span never arrived; its last error: 429 slow down"
    assert run.event_id == span_event_id_without_start(run.trace_id, f"{root.get_span_context().span_id:016x}")
    assert [one.run_id for one in doors.exported.spans] == [run.run_id]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(drawn=traces(run_last=True))
def test_any_order_partition_and_repetition_gives_the_live_rows(tmp_path, drawn):
    """Runs, parents, names, sums and steps, whichever way a span took."""
    tree, arrivals, cuts = drawn
    finished, alone = InMemorySpanExporter(), InMemorySpanExporter()
    with capture_runs() as live:
        live.provider.add_span_processor(SimpleSpanProcessor(finished))
        record_tree(live.provider.get_tracer("app"), tree)
    provider = TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(alone))
    record_tree(provider.get_tracer("app"), tree)
    for spans in (finished, alone):  # with and without the attributes that the processor sets
        by_start = sorted(spans.get_finished_spans(), key=lambda span: int(span.name.split()[1]))
        with capture_runs() as exported:
            exporter, batch = AgentRunSpanExporter(recorder=exported.recorder), []
            for number, cut in zip(arrivals, cuts, strict=False):
                batch.append(by_start[number])
                if cut:
                    exporter.export(batch)
                    batch = []
            exporter.export(batch)
            exporter.force_flush()
        assert shape_of(exported.runs, exported.spans) == shape_of(live.runs, live.spans)


def test_export_again_changes_nothing_but_repeats(doors, tmp_path):
    """A batch that is exported twice carries the same event ids: one row."""
    work(doors.tracer)
    spans = doors.spans.get_finished_spans()
    doors.export()
    AgentRunSpanExporter(recorder=doors.exported).export(spans)

    live, exported = doors.rows()
    assert exported == live


class Broken(MemoryRecorder):
    def record_run(self, fields):
        raise RuntimeError("ours")


def test_our_own_failure_is_a_failed_export(doors, tmp_path):
    """Told to the batch processor, counted, never raised."""
    recorder = Broken(isolated_config(tmp_path))
    work(doors.tracer)

    assert AgentRunSpanExporter(recorder=recorder).export(doors.spans.get_finished_spans()) is SpanExportResult.FAILURE
    assert recorder.counters.internal_errors == 1


def test_exporter_without_arguments_takes_the_environment(agent_telemetry_base):
    """As an entry point requires; shutting down twice, flushing nothing."""
    exporter = AgentRunSpanExporter()

    assert exporter.recorder.config.base_dir == agent_telemetry_base
    assert exporter.force_flush(100)
    assert exporter.export([]) is SpanExportResult.SUCCESS
    exporter.shutdown()
    exporter.shutdown()
    assert not agent_telemetry_base.exists()


def test_a_span_that_only_announces_another_is_no_step(doors):
    """Logfire hands a pending span to its exporters before the span itself."""
    announcing = {"logfire.span_type": "pending_span", "logfire.pending_parent_id": "0" * 16}
    with doors.tracer.start_as_current_span("ask"):
        doors.tracer.start_span("ask", attributes=announcing).end()
    doors.export()
    assert [step.name for step in doors.exported.spans] == []
    assert [state.job_type for state in doors.exported.states] == ["ask"]
