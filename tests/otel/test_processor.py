from __future__ import annotations

import asyncio
import concurrent.futures
import enum
import json
import threading

import pytest
from on_disk import journal_lines, rows_of, run_python
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from otel_agent_telemetry import AgentRunSpanProcessor, TelemetryClient
from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.delivery.suppress_instrumentation import suppress_instrumentation
from otel_agent_telemetry.run_id import span_event_id
from otel_agent_telemetry.testing import MemoryRecorder, capture_runs, isolated_config


@pytest.fixture
def captured():
    with capture_runs() as opened:
        yield opened


@pytest.fixture
def tracer(captured):
    return captured.provider.get_tracer("app")


def remote_parent():
    context = SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=TraceFlags(1))
    return trace.set_span_in_context(NonRecordingSpan(context))


# --- what is a run


def test_root_span_is_a_run_from_its_start_on(captured, tracer):
    """Identity comes from the span; the id is set back on it; the end follows."""
    with tracer.start_as_current_span("fetch mail", attributes={"shard": 3}) as span:
        (running,) = captured.runs
        assert running.status == "running"
        assert span.attributes["agent.run.id"] == running.run_id

    (run,) = captured.runs
    context = span.get_span_context()
    assert (run.trace_id, run.span_id) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")
    assert run.event_id == span_event_id(run.trace_id, run.span_id, span.start_time)
    assert (run.status, run.job_type, run.agent_name) == ("success", "fetch mail", "unknown_service")
    assert json.loads(run.context_json) == {"shard": 3}
    assert run.run_id.endswith(run.event_id[:8])


def test_children_are_steps_of_the_run(captured, tracer):
    """At any depth, with parent, kind, status and times; a failed step counts as an error of a child."""
    with tracer.start_as_current_span("root"):
        with (
            tracer.start_as_current_span("outer", kind=SpanKind.CLIENT),
            tracer.start_as_current_span("inner") as inner,
        ):
            inner.set_attribute("rows", 3)
        with pytest.raises(ValueError), tracer.start_as_current_span("bad"):
            raise ValueError("x")

    (run,) = captured.runs
    outer, inner, bad = captured.spans
    assert {step.run_id for step in captured.spans} == {run.run_id}
    assert {step.event_id for step in captured.spans} == {run.event_id}
    assert (outer.parent_span_id, outer.kind, outer.status) == (run.span_id, "client", "unset")
    assert (inner.parent_span_id, inner.attributes) == (outer.span_id, {"rows": 3})
    assert (bad.status, bad.status_message) == ("error", "ValueError: x")
    assert all(step.end_time >= step.start_time for step in captured.spans)
    assert run.status == "success"
    assert json.loads(run.metrics_json) == {"gen_ai": {"child_errors": 1, "had_errors": True, "steps": 3}}


def test_step_is_written_when_it_starts(captured, tracer):
    """A killed process leaves its open steps in the journal."""
    with tracer.start_as_current_span("root"), tracer.start_as_current_span("step"):
        assert [(step.name, step.status, step.end_time) for step in captured.spans] == [("step", "running", None)]


def test_steps_in_other_threads_belong_to_the_run_whose_context_they_carry(captured, tracer):
    """With the context handed over a child; without it a root, so a run, of its own."""
    with tracer.start_as_current_span("root", attributes={"agent.run.id": "root"}) as root:
        carried = trace.set_span_in_context(root)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            pool.submit(lambda: tracer.start_span("carried", context=carried).end()).result()
            pool.submit(lambda: tracer.start_span("lost").end()).result()

    assert [step.name for step in captured.spans] == ["carried"]
    assert sorted(run.job_type for run in captured.runs) == ["lost", "root"]


def test_steps_of_asyncio_tasks_belong_to_the_run(captured, tracer):
    """Context variables travel with tasks."""

    async def step(name):
        with tracer.start_as_current_span(name):
            await asyncio.sleep(0)

    async def main():
        with tracer.start_as_current_span("root"):
            await asyncio.gather(*(step(f"s{n}") for n in range(5)))

    asyncio.run(main())

    assert sorted(step.name for step in captured.spans) == [f"s{n}" for n in range(5)]
    assert len(captured.runs) == 1


def test_step_that_outlives_its_run_is_kept(captured, tracer):
    """Its end comes after the run's; it is a step all the same."""
    root = tracer.start_span("root")
    step = tracer.start_span("late", context=trace.set_span_in_context(root))
    root.end()
    step.end()

    assert [(found.name, found.status) for found in captured.spans] == [("late", "unset")]


def test_child_of_a_remote_parent_is_no_run_unless_it_says_so(captured, tracer):
    """A request of another service is a part of something; an agent invocation or a mark is a run."""
    tracer.start_span("GET /", context=remote_parent()).end()
    tracer.start_span("x", context=remote_parent(), attributes={"gen_ai.operation.name": "invoke_agent"}).end()
    tracer.start_span("y", context=remote_parent(), attributes={"agent.run.id": "marked"}).end()

    assert [run.job_type for run in captured.runs] == ["x", "y"]
    assert captured.runs[1].run_id == "marked"


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.operation.name": "invoke_agent"},
        {"gen_ai.operation.name": "invoke_workflow"},
        {"openinference.span.kind": "AGENT"},
        {"traceloop.span.kind": "workflow"},
        {"traceloop.span.kind": "agent"},
        {"agent.run.job_type": "j"},
    ],
)
def test_agent_invocation_inside_a_run_is_a_run_of_its_own(captured, tracer, attributes):
    """By any convention; its parent is the run above."""
    with tracer.start_as_current_span("GET /", attributes={"agent.run.id": "request"}):
        with tracer.start_as_current_span("step"), tracer.start_as_current_span("agent", attributes=attributes):
            pass

    request, agent = captured.runs
    assert agent.parent_run_id == "request" == request.run_id
    assert [step.name for step in captured.spans] == ["step"]


@pytest.mark.parametrize(
    ("which", "expected"),
    [("root", ["root", "agent", "marked"]), ("agents", ["agent", "marked"]), ("marked", ["marked"])],
)
def test_runs_setting_narrows_what_is_a_run(which, expected):
    """`TELEMETRY_RUNS`."""
    with capture_runs(runs=which) as captured:
        tracer = captured.provider.get_tracer("app")
        tracer.start_span("root").end()
        tracer.start_span("agent", attributes={"gen_ai.operation.name": "invoke_agent"}).end()
        tracer.start_span("marked", attributes={"agent.run.product": "p"}).end()

    assert [run.job_type for run in captured.runs] == expected


# --- columns from attributes


def test_columns_from_marks_conventions_and_resource(tmp_path):
    """`agent.run.*` beats the convention, which beats the resource; late attributes count."""
    recorder = MemoryRecorder(isolated_config(tmp_path))
    resource = Resource({"service.name": "svc", "deployment.environment.name": "prod", "host.name": "h1"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(AgentRunSpanProcessor(recorder=recorder))
    tracer = provider.get_tracer("app")
    attributes = {"agent.run.environment": "test", "vcs.ref.head.name": "main", "gen_ai.agent.name": "planner"}

    with tracer.start_as_current_span("invoke_agent other", attributes=attributes) as span:
        span.set_attribute("agent.run.items_succeeded", 4)
        span.set_attribute("gen_ai.workflow.name", "nightly")

    run = recorder.states[-1]
    assert (run.environment, run.git_branch, run.host, run.service_name) == ("test", "main", "h1", "svc")
    assert (run.agent_name, run.job_type, run.items_succeeded) == ("planner", "nightly", 4)


def test_agent_name_in_the_spans_name_or_the_service(captured, tracer):
    """Where nothing else gives one."""
    tracer.start_span("invoke_agent planner").end()
    tracer.start_span("create_something planner").end()

    assert [run.agent_name for run in captured.runs] == ["planner", "unknown_service"]


def test_prompts_and_completions_stay_out_unless_asked_for():
    """`capture_content` decides; other attributes are context."""
    attributes = {"gen_ai.input.messages": "secret plan", "llm.input_messages.0.content": "secret plan", "kept": 1}
    left_out = {"gen_ai.input.messages": 2, "llm.input_messages.*.content": 2}
    for capture, expected in ((False, {"kept": 1}), (True, attributes)):
        with capture_runs(capture_content=capture) as captured:
            tracer = captured.provider.get_tracer("app")
            with tracer.start_as_current_span("root", attributes=attributes):
                tracer.start_span("step", attributes=attributes).end()
        context = json.loads(captured.runs[0].context_json)
        assert context == (expected if capture else {**expected, "dropped": left_out})
        assert captured.spans[0].attributes == expected


def test_two_hundred_attributes_and_five_hundred_events_are_all_kept(captured, tracer):
    """The span keeps the last 128 of each; the run's identity, first attributes and every event are safe."""
    with tracer.start_as_current_span("root", attributes={"agent.run.product": "first"}) as span:
        for number in range(200):
            span.set_attribute(f"a{number}", number)
        for number in range(500):
            span.add_event(f"e{number}", {"n": number})

    (run,) = captured.runs
    assert "agent.run.id" not in span.attributes
    assert run.product == "first"
    assert run.run_id == captured.states[0].run_id
    assert [event.event_type for event in captured.events] == [f"e{number}" for number in range(500)]
    assert len(span.events) == 128


def test_odd_marks_are_problems_not_errors(captured, tracer, caplog):
    """An unknown `agent.run.` name, a wrong type, an unusable id: the run is recorded, one warning."""
    tracer.start_span(
        "x", attributes={"agent.run.nonsense": 1, "agent.run.items_failed": -4, "agent.run.id": "a/b"}
    ).end()

    (run,) = captured.runs
    assert (run.status, run.items_failed) == ("success", 0)
    assert "a/b" not in run.run_id
    assert "agent.run.nonsense" in caplog.text


# --- events


def test_event_is_written_when_add_event_returns(captured, tracer):
    """With attributes and the caller's timestamp; the span has it too."""
    with tracer.start_as_current_span("root") as span:
        span.add_event("checkpoint", {"step": 1, "token": "x"}, timestamp=1_700_000_000_000_000_000)
        (event,) = captured.events

    assert (event.event_type, event.timestamp) == ("checkpoint", "2023-11-14T22:13:20.000000+00:00")
    assert event.payload == {"step": 1, "token": "***REDACTED***"}
    assert span.events[0].attributes["step"] == 1


def test_events_of_steps_are_events_of_the_run(captured, tracer):
    """Under the step's span id."""
    with tracer.start_as_current_span("root"), tracer.start_as_current_span("step") as step:
        step.add_event("hit")

    (event,) = captured.events
    assert event.run_id == captured.runs[0].run_id
    assert event.span_id == f"{step.get_span_context().span_id:016x}"


def test_add_event_is_the_spans_own_again_after_the_end(captured, tracer):
    """Nothing of ours stays on a span that has ended; late events are the SDK's business."""
    bare = TracerProvider(shutdown_on_exit=False).get_tracer("app").start_span("root")
    span = tracer.start_span("root")
    assert type(span) is not type(bare)
    span.end()

    assert type(span) is type(bare)
    assert vars(span).keys() == vars(bare).keys()
    span.add_event("late")
    assert captured.events == []


def test_recorded_exception_is_an_event_and_the_reason(captured, tracer):
    """`record_exception` with status ERROR; without it the run is a success that had an exception."""
    for status in (StatusCode.ERROR, StatusCode.UNSET):
        with tracer.start_as_current_span("root") as span:
            span.record_exception(LookupError("missing"), attributes={"hint": "look"})
            span.set_status(status)

    failed, fine = captured.runs
    assert (failed.status, failed.error_summary) == ("failed", "LookupError: missing")
    assert (fine.status, fine.error_summary) == ("success", None)
    assert captured.events[0].payload["hint"] == "look"


def test_a_line_of_an_event_has_the_time_of_the_spans_event(captured, tracer):
    """A service that gets the event over OTLP as well knows it by its span, type and time."""
    with tracer.start_as_current_span("root") as span:
        span.add_event("plain")
        span.add_event("cleaned", {"parts": {"not": "a type of OpenTelemetry"}})
        span.record_exception(LookupError("missing"))

    assert [event.timestamp for event in captured.events] == [iso_utc(event.timestamp) for event in span.events]


# --- endings


def test_exception_ends_the_run_as_failed(captured, tracer):
    """Type and message, and the stack."""
    with pytest.raises(ZeroDivisionError), tracer.start_as_current_span("root"):
        1 / 0  # noqa: B018

    (run,) = captured.runs
    assert (run.status, run.error_summary) == ("failed", "ZeroDivisionError: division by zero")
    assert "1 / 0" in run.error_details


@pytest.mark.parametrize(
    ("problem", "status"),
    [(TimeoutError("t"), "timeout"), (asyncio.CancelledError(), "cancelled"), (KeyboardInterrupt(), "cancelled"),
     (GeneratorExit(), "cancelled"), (SystemExit(2), "failed"), (SystemExit(0), "success"), (BaseException("b"), "failed")],
    ids=lambda value: repr(value),
)  # fmt: skip
def test_exceptions_that_opentelemetry_does_not_record(captured, tracer, problem, status):
    """The SDK ends these spans UNSET; the run says what happened and why."""
    with pytest.raises(BaseException) as caught, tracer.start_as_current_span("root"):
        raise problem

    assert caught.value is problem
    (run,) = captured.runs
    assert run.status == status
    assert bool(run.error_summary) == (status != "success")


def test_run_made_while_an_interrupt_is_handled_is_its_own(captured, tracer):
    """A clean-up run started in the handler did not fail of what it cleans up after."""
    with pytest.raises(KeyboardInterrupt):
        try:
            raise KeyboardInterrupt
        finally:
            with tracer.start_as_current_span("clean up"):
                pass

    assert captured.runs[0].status == "success"


def test_status_of_the_span_and_description(captured, tracer):
    """ERROR with a text and no exception; OK; and `agent.run.status` over both."""
    for status, said in (
        (Status(StatusCode.ERROR, "quota"), None),
        (Status(StatusCode.OK), None),
        (None, "Partial"),
        (Status(StatusCode.ERROR), "ok"),
    ):
        span = tracer.start_span("root")
        if status is not None:
            span.set_status(status)
        if said is not None:
            span.set_attribute("agent.run.status", said)
        span.end()

    assert [(run.status, run.error_summary) for run in captured.runs] == [
        ("failed", "quota"), ("success", None), ("partial", None), ("success", None),
    ]  # fmt: skip


def test_secrets_at_the_end_of_a_long_stack_are_masked(captured, tracer):
    """A stack past 16 KiB has its message at its end."""

    def deep(number):
        if number == 0:
            raise ValueError("token is Bearer abcdefghijklmnop")
        try:
            deep(number - 1)
        except ValueError as problem:
            raise ValueError(f"level {number}") from problem

    with pytest.raises(ValueError), tracer.start_as_current_span("root"):
        try:
            deep(200)
        except ValueError as problem:
            raise ValueError("last Bearer qrstuvwxyzabcdef") from problem

    (run,) = captured.runs
    assert len(run.error_details) > 20_000
    assert "abcdefghijklmnop" not in run.error_details
    assert "qrstuvwxyzabcdef" not in run.error_details + run.error_summary


def test_end_time_given_by_the_caller_counts(captured, tracer):
    """Instrumentations that replay spans set both times."""
    start = 1_700_000_000 * 10**9
    tracer.start_span("root", start_time=start).end(end_time=start + 2_500_000_000)

    (run,) = captured.runs
    assert (run.start_time, run.end_time, run.duration_ms) == (
        "2023-11-14T22:13:20.000000+00:00", "2023-11-14T22:13:22.500000+00:00", 2500,
    )  # fmt: skip


def test_ending_twice_is_harmless(captured, tracer):
    """The SDK warns; we have one end."""
    span = tracer.start_span("root")
    span.end()
    span.end()

    assert [state.status for state in captured.states] == ["running", "success"]


# --- robustness


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


def test_a_run_left_open_names_the_last_error_known(captured, tracer):
    """Some libraries end the step that failed, and never the span around it."""
    processor = AgentRunSpanProcessor(recorder=captured.recorder)
    left_open = tracer.start_span("agent", attributes={"agent.run.id": "by a step"})
    current = trace.use_span(left_open, record_exception=False, set_status_on_exception=False)
    with pytest.raises(OSError, match="gone"), current, tracer.start_as_current_span("step"):
        raise OSError("gone")
    tracer.start_span("agent", attributes={"agent.run.id": "by itself"}).record_exception(ValueError("bad"))
    processor.close_open_runs()
    why = {run.run_id: run.error_summary for run in captured.runs}
    prefix = "the process exited while the run was still open; its last error: "
    assert why == {"by a step": f"{prefix}OSError: gone", "by itself": f"{prefix}ValueError: bad"}


def test_empty_names_are_not_known_and_do_not_poison_the_run(captured, tracer):
    """An empty `agent.run.agent_name` is no name: the next source gives one, and the record is whole."""
    tracer.start_span("work", attributes={"agent.run.agent_name": "", "agent.run.job_type": ""}).end()

    (run,) = captured.runs
    assert (run.agent_name, run.job_type) == ("unknown_service", "work")


@pytest.mark.parametrize("attribute", ["vcs.repository.url.full", "agent.run.git_repo"])
def test_credentials_in_a_repository_named_on_the_span_are_dropped(captured, tracer, attribute):
    """A remote may hold a password; the address of a login without one stays."""
    for given in ("https://user:pa55word@github.com/o/r.git", "git@github.com:o/r.git"):
        with tracer.start_as_current_span("run", attributes={attribute: given}):
            pass
    assert {run.git_repo for run in captured.runs} == {"https://github.com/o/r.git", "git@github.com:o/r.git"}
    assert "pa55word" not in str(captured.runs)


class Names(str, enum.Enum):  # noqa: UP042 - as frameworks define it
    OPERATION = "gen_ai.operation.name"
    AGENT = "gen_ai.agent.name"


def test_names_of_attributes_may_be_members_of_an_enumeration(captured, tracer):
    """A framework that keeps its names so sets them after the start: its agent is a run inside all the same."""
    outer = {"gen_ai.operation.name": "invoke_workflow", "gen_ai.agent.name": "library"}
    with tracer.start_as_current_span("workflow", attributes=outer):
        with tracer.start_as_current_span("inner") as span:
            span.set_attributes({Names.AGENT: "researcher", Names.OPERATION: "invoke_agent"})
    assert [run.agent_name for run in captured.runs if run.parent_run_id] == ["researcher"]
