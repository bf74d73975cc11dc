"""Message content is left out by every route by which spans become records: live, exported, received."""

from __future__ import annotations

import json
from dataclasses import asdict
from tempfile import TemporaryDirectory

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValueList
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_agent_telemetry import AgentRunLogProcessor, AgentRunSpanExporter, AgentRunSpanProcessor
from otel_agent_telemetry.operations.check_environment import check_content
from otel_agent_telemetry.otel.receiver import SpanReceiver
from otel_agent_telemetry.recording.active_runs import ResourceDefaults
from otel_agent_telemetry.storage.queries import list_runs
from otel_agent_telemetry.storage.run_filters import RunQuery
from otel_agent_telemetry.storage.steps import events_of, spans_of
from otel_agent_telemetry.storage.store import Store, WriteBatch, write_batch
from otel_agent_telemetry.testing import MemoryRecorder, capture_runs, isolated_config
from tests.emitters.captured_turns import CAPTURES, records_of_request, turn_reader
from tests.otel.content_cases import HARMLESS, LEAKS

SECRET = "my knee hurts"
LONG = f"{SECRET} and the rest of it is as long as what people write to an agent, or as what it answers."
WELL_KNOWN = [name for name in HARMLESS if not name.startswith(("agent.run.", "gen_ai.operation", "openinference"))]
STEP_LEAKS = [name for name in LEAKS if name != "all_messages_events"]  # it makes a span an agent's
ROUTES = ("live", "exporter", "otlp")


def configured(**settings):
    return MemoryRecorder(isolated_config("/nowhere", skip_validation=True, **settings))


def provider_with(processor):
    limits = SpanLimits(max_attributes=10_000, max_span_attributes=10_000, max_event_attributes=10_000)
    provider = TracerProvider(resource=Resource.get_empty(), span_limits=limits, shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return provider


def recorded(route, program, **settings):
    """Run a program that makes spans; return the run's last state, its events and the last states of its steps."""
    recorder = configured(**settings)
    if route == "live":
        program(provider_with(AgentRunSpanProcessor(recorder=recorder)).get_tracer("app"))
        return recorder.states[-1], recorder.events, [step for step in recorder.spans if step.end_time]
    kept = InMemorySpanExporter()
    program(provider_with(SimpleSpanProcessor(kept)).get_tracer("app"))
    spans = kept.get_finished_spans()
    if route == "exporter":
        AgentRunSpanExporter(recorder=recorder).export(spans)
        return recorder.states[-1], recorder.events, recorder.spans
    return stored(encode_spans(spans), **settings)


def stored(request, **settings):
    """Return the run whose spans a request over OTLP holds, its events and its steps, as they are read."""
    with TemporaryDirectory() as folder:
        config = isolated_config(folder, skip_validation=True, **settings)
        store = Store(config)
        store.open()
        receiver = SpanReceiver(runs="root", around=ResourceDefaults.of(config, {}))
        received = receiver.read(request)
        nodes = receiver.nodes_of(received.items, received)
        batch = WriteBatch([node.state for node in nodes if node.state is not None], (), nodes)
        store.transact(lambda connection: write_batch(connection, batch))
        with store.reading() as connection:
            (run,) = list_runs(connection, RunQuery(priced=False))
            events, steps = events_of(connection, run.event_id), spans_of(connection, run.event_id)
        store.close()
    return run, events, steps


def text_of(run, events, steps):
    return json.dumps([asdict(record) for record in (run, *events, *steps)], default=str)


def context_of(run):
    return json.loads(run.context_json or "{}")


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("value", [SECRET, LONG, [SECRET], [LONG, LONG]], ids=["short", "long", "list", "long list"])
def test_no_name_of_content_leaks(route, value):
    """On the run's span, set at its start or later, on a step, and in events of conventions."""
    attributes = dict.fromkeys(LEAKS, value)

    def program(tracer):
        with tracer.start_as_current_span("root", attributes=attributes) as root:
            root.set_attribute("ai.prompt", value)
            with tracer.start_as_current_span("step", attributes=dict.fromkeys(STEP_LEAKS, value)) as step:
                step.set_attribute("ai.value", value)
                step.add_event("gen_ai.choice", attributes)
            root.add_event("gen_ai.user.message", {"content": value, "role": "user"})

    run, events, steps = recorded(route, program)
    assert SECRET not in text_of(run, events, steps)
    assert {event.event_type: event.payload for event in events} == {
        "gen_ai.choice": {},
        "gen_ai.user.message": {"role": "user"},
    }
    dropped = context_of(run)["dropped"]
    assert (dropped["ai.prompt"], dropped["ai.response.text"], dropped["ai.prompt.messages"]) == (3, 3, 3)
    assert sum(dropped.values()) == 3 * len(LEAKS)


@pytest.mark.parametrize("route", ROUTES)
def test_texts_of_plain_spans_do_not_leak_one_by_one(route):
    """A few texts a span are recorded on a faster path than many."""

    def program(tracer):
        with tracer.start_as_current_span("root"):
            for name in STEP_LEAKS:
                with tracer.start_as_current_span("step", attributes={name: SECRET, "n": 1}):
                    pass

    run, events, steps = recorded(route, program)
    assert SECRET not in text_of(run, events, steps)
    assert [step.attributes for step in steps] == [{"n": 1}] * len(STEP_LEAKS)


@pytest.mark.parametrize("route", ROUTES)
def test_well_known_names_stay_with_long_texts(route):
    """On runs and steps, and nothing is counted."""
    attributes = dict.fromkeys(WELL_KNOWN, "v" * 100)

    def program(tracer):
        with tracer.start_as_current_span("root", attributes=attributes):
            tracer.start_span("step", attributes=attributes).end()

    run, _, (step,) = recorded(route, program)
    assert step.attributes == attributes
    stored = context_of(run)
    assert "dropped" not in stored
    assert {name for name in WELL_KNOWN if name not in stored} <= {"gen_ai.agent.name"}  # a column


@pytest.mark.parametrize("route", ROUTES)
def test_short_texts_numbers_and_urls(route):
    """Unknown names keep short texts; a URL loses its query."""
    attributes = {"tenant": "acme", "note": "x" * 65, "n": 1, "url.full": "https://h/a?q=knee", "tool.result": 7}

    def program(tracer):
        with tracer.start_as_current_span("root", attributes=attributes):
            tracer.start_span("step", attributes=attributes).end()

    run, _, (step,) = recorded(route, program)
    kept = {"tenant": "acme", "n": 1, "url.full": "https://h/a", "tool.result": 7}
    assert step.attributes == kept
    assert context_of(run) == {**kept, "dropped": {"note": 2, "url.full": 2}}


@pytest.mark.parametrize("route", ROUTES)
def test_an_agent_that_repeats_the_run_around_it_counts_for_that_run(route):
    """It is a step of it, and what is below it too; an agent of another name has counts of its own."""

    def agent(name):
        return {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name, "ai.prompt": SECRET}

    def program(tracer):
        with tracer.start_as_current_span("invoke_agent a", attributes=agent("a")):
            with tracer.start_as_current_span("invoke_agent a", attributes=agent("a")):
                tracer.start_span("step", attributes={"tool.args": SECRET}).end()

    run, _, steps = recorded(route, program)
    assert context_of(run)["dropped"] == {"ai.prompt": 2, "tool.args": 1}
    assert SECRET not in text_of(run, [], steps)


@pytest.mark.parametrize("route", ROUTES)
def test_the_applications_own_events_are_kept(route):
    """Under a name of its own, whatever its payload's names; but what a convention lists as content is left out."""

    def program(tracer):
        with tracer.start_as_current_span("root") as root:
            root.add_event("reviewed", {"message": LONG, "query": LONG, "gen_ai.input.messages": SECRET})

    run, (event,), _ = recorded(route, program)
    assert event.payload == {"message": LONG, "query": LONG}
    assert context_of(run)["dropped"] == {"gen_ai.input.messages": 1}


@pytest.mark.parametrize("route", ROUTES)
def test_an_exception_is_kept(route):
    """Its message says why the run failed; other attributes of the event are judged."""

    def program(tracer):
        with tracer.start_as_current_span("root") as root:
            root.record_exception(ValueError(LONG), attributes={"prompt": LONG})

    _, (event,), _ = recorded(route, program)
    assert event.payload["exception.message"] == LONG
    assert "prompt" not in event.payload


@pytest.mark.parametrize("route", ROUTES)
def test_settings_keep_names_or_everything(route):
    """`TELEMETRY_CONTENT_ALLOW`, `TELEMETRY_UNKNOWN_TEXT_MAX`, `TELEMETRY_CAPTURE_CONTENT`."""
    attributes = {"gen_ai.tool.call.arguments": LONG, "ai.prompt": LONG, "note": "x" * 65, "url.full": "https://h/?q=1"}

    def program(tracer):
        with tracer.start_as_current_span("root", attributes=attributes) as root:
            root.add_event("gen_ai.choice", {"message": LONG})

    def names(**settings):
        run, (event,), _ = recorded(route, program, **settings)
        return {*context_of(run)} - {"dropped"} | {*(event.payload or {})}

    assert names() == {"url.full"}
    assert names(content_allow=("gen_ai.tool.*", "message")) == {"url.full", "gen_ai.tool.call.arguments", "message"}
    assert names(unknown_text_max=65) == {"url.full", "note"}
    assert names(capture_content=True) == {*attributes, "message"}


@pytest.mark.parametrize("route", ROUTES)
def test_what_was_left_out_is_counted_within_bounds(route):
    """An application that makes names up, or has a member `dropped` itself, finds its run all the same."""

    def program(tracer):
        with tracer.start_as_current_span("root", attributes={f"made.up{n}.prompt": SECRET for n in range(400)}):
            for n in range(400):
                tracer.start_span("step", attributes={f"also.x{n}.prompt": SECRET}).end()

    def own(tracer):
        tracer.start_span("root", attributes={"dropped": 5, "prompt": SECRET}).end()

    dropped = context_of(recorded(route, program)[0])["dropped"]
    assert len(dropped) <= 257
    assert sum(dropped.values()) == 800
    assert context_of(recorded(route, own)[0]) == {"dropped": 5}


def test_what_the_application_records_through_the_client_is_kept():
    """Arguments, events under any name, figures; secrets are masked as ever."""
    with capture_runs() as captured:
        with captured.client.track_run("a", "j", input_summary=LONG, prompt=LONG) as run:
            run.log_event("gen_ai.choice", {"message": LONG, "password": "hunter2"})
            run.log_event("note", {"gen_ai.input.messages": LONG})
            run.set_metrics(output_summary=LONG, answer=LONG)
    (stored,) = captured.runs
    assert (stored.input_summary, stored.output_summary) == (LONG, LONG)
    assert {**context_of(stored), "start_commit": ""} == {"prompt": LONG, "answer": LONG, "start_commit": ""}
    assert [event.payload for event in captured.events] == [
        {"message": LONG, "password": "***REDACTED***"},
        {"gen_ai.input.messages": LONG},
    ]


def test_log_records_of_conventions_are_judged_and_the_applications_own_are_kept():
    """Bodies as texts and as maps, and attributes."""
    with capture_runs() as captured:
        logs = LoggerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)
        logs.add_log_record_processor(AgentRunLogProcessor(AgentRunSpanProcessor(recorder=captured.recorder)))
        logger = logs.get_logger("app")
        with captured.provider.get_tracer("app").start_as_current_span("root"):
            logger.emit(event_name="gen_ai.user.message", body={"content": SECRET, "role": "user"})
            logger.emit(event_name="gen_ai.choice", body=SECRET, attributes={"index": 0})
            logger.emit(
                event_name="gen_ai.client.inference.operation.details",
                attributes={"gen_ai.input.messages": [{"role": "user", "parts": [{"content": SECRET}]}], "n": 1},
            )
            logger.emit(event_name="reviewed", body=SECRET)
        logs.shutdown()
    assert [event.payload for event in captured.events] == [{"role": "user"}, {"index": 0}, {"n": 1}, {"body": SECRET}]
    assert context_of(captured.runs[0])["dropped"] == {"body": 1, "content": 1, "gen_ai.input.messages": 1}


def test_maps_that_come_over_otlp_are_judged_member_by_member():
    """Nested maps and lists of them, under unknown names and under names of content."""
    kept = InMemorySpanExporter()
    provider_with(SimpleSpanProcessor(kept)).get_tracer("app").start_span("root").end()
    request = encode_spans(kept.get_finished_spans())
    (span,) = request.resource_spans[0].scope_spans[0].spans
    settings = KeyValueList()
    settings.values.add(key="level", value=AnyValue(int_value=3))
    settings.values.add(key="prompt", value=AnyValue(string_value=SECRET))
    span.attributes.add(key="agent.settings", value=AnyValue(kvlist_value=settings))
    span.attributes.add(key="ai.prompt", value=AnyValue(kvlist_value=settings))
    run, _, _ = stored(request)
    assert context_of(run) == {
        "agent.settings": {"level": 3},
        "dropped": {"agent.settings.prompt": 1, "ai.prompt": 1},
    }


def test_what_is_left_out_of_steps_that_end_on_many_threads_is_counted_once_each():
    """Without a lock, also past the number of parts that are summed up meanwhile."""
    from concurrent.futures import ThreadPoolExecutor

    from opentelemetry import trace

    with capture_runs() as captured:
        tracer = captured.provider.get_tracer("app")
        with tracer.start_as_current_span("root") as root:
            context = trace.set_span_in_context(root)

            def work(_):
                for _ in range(200):
                    tracer.start_span("step", context=context, attributes={"ai.prompt": SECRET}).end()

            with ThreadPoolExecutor(4) as pool:
                list(pool.map(work, range(4)))
    assert context_of(captured.runs[0])["dropped"] == {"ai.prompt": 800}


CHOICES = {
    "agent:planner": {"gen_ai.agent.name": "Planner"},
    "project:website": {"agent.label.project": "website"},
}


def said_three_times(tracer, attributes):
    """A run that says it itself, in a step and in an event of the step."""
    with tracer.start_as_current_span("root", attributes={**attributes, "ai.prompt": SECRET}):
        with tracer.start_as_current_span("step", attributes={**attributes, "ai.prompt": SECRET}) as step:
            step.add_event("gen_ai.choice", {"content": SECRET})


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("choice", CHOICES)
def test_content_is_kept_for_a_chosen_agent_or_project(route, choice):
    """All of it, and the run says so; for any other it is left out as ever."""
    run, events, steps = recorded(
        route, lambda tracer: said_three_times(tracer, CHOICES[choice]), capture_content_for=("agent:other", choice)
    )
    assert text_of(run, events, steps).count(SECRET) == 3
    assert context_of(run)["content_kept"] is True
    assert "dropped" not in context_of(run)
    run, events, steps = recorded(
        route, lambda tracer: said_three_times(tracer, CHOICES[choice]), capture_content_for=("agent:other",)
    )
    assert SECRET not in text_of(run, events, steps)
    assert "content_kept" not in context_of(run)
    assert sum(context_of(run)["dropped"].values()) == 3


@pytest.mark.parametrize("route", ROUTES)
def test_a_product_is_a_project_too(route):
    """As `agent.run.product` names it."""

    def program(tracer):
        tracer.start_span("root", attributes={"agent.run.product": "shop", "ai.prompt": SECRET}).end()

    run, _, _ = recorded(route, program, capture_content_for=("project:shop",))
    assert context_of(run) == {"ai.prompt": SECRET, "content_kept": True}


def test_a_live_run_decides_for_what_is_below_it():
    """Steps need not name the agent; another agent's run in the same process keeps nothing."""
    recorder = configured(capture_content_for=("agent:planner",))
    tracer = provider_with(AgentRunSpanProcessor(recorder=recorder)).get_tracer("app")
    for name in ("planner", "clerk"):
        with tracer.start_as_current_span("root", attributes={"gen_ai.agent.name": name}) as root:
            with tracer.start_as_current_span("step", attributes={"ai.prompt": f"{SECRET} {name}"}):
                root.add_event("gen_ai.choice", {"content": f"{SECRET} {name}"})
    text = json.dumps([asdict(one) for one in (*recorder.states, *recorder.events, *recorder.spans)], default=str)
    assert f"{SECRET} planner" in text
    assert f"{SECRET} clerk" not in text
    kept = {state.agent_name: "content_kept" in context_of(state) for state in recorder.states}
    assert kept == {"planner": True, "clerk": False}
    assert all("content_kept" in context_of(state) for state in recorder.states if state.agent_name == "planner")


def test_doctor_names_what_is_chosen():
    """Beside what holds for all others."""
    texts = [one.text for one in check_content(isolated_config("/nowhere", capture_content_for=("agent:planner",)))]
    assert texts[0] == "TELEMETRY_CAPTURE_CONTENT_FOR keeps all of it for agent:planner"
    assert "left out" in texts[1]


@pytest.mark.parametrize("choice", ["agent:claude-code", "project:website", "agent:codex"])
def test_turns_of_a_chosen_coding_agent_keep_content(choice):
    """Of its log records; the run says so."""
    body = json.loads((CAPTURES / "claude-code_logs_with_trace_ids_and_tool_details.json").read_text("utf-8"))["body"]
    label = {"key": "agent.label.project", "value": {"stringValue": "website"}}
    body["resourceLogs"][0]["resource"]["attributes"].append(label)
    records = records_of_request(body, turn_reader(content_for=(choice,)))
    is_kept = choice != "agent:codex"
    assert all(("tool_parameters" in one.payload) is is_kept for one in records if one.name == "tool_result")
    (prompt,) = (one for one in records if one.role == "begins")
    assert ("prompt" in prompt.payload) is is_kept
    assert ("content_kept" in json.loads(prompt.base.get("context_json") or "{}")) is is_kept
