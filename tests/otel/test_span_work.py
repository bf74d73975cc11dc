"""Which roots are plumbing is decided alike for spans that are recorded live, exported after their end and received."""

from __future__ import annotations

from itertools import permutations

import pytest

from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.operations.run_reader import LocalRuns
from otel_agent_telemetry.storage.run_filters import RunQuery
from otel_agent_telemetry.testing import isolated_config
from tests.emitters.recorded_program import RecordedProgram
from tests.emitters.ways import opened

AGENT = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "triage"}
CALL = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 3}
TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "look"}


def root(name, attributes=None, **more):
    return {"id": name, "name": name, "start": 0, "end": 9, "attributes": attributes or {}, **more}


def inside(parent, attributes):
    return {"id": f"{parent}/in", "parent": parent, "name": "in", "start": 1, "end": 8, "attributes": attributes}


IDLE = [root("idle"), root("idle with attributes", {"db.system": "sqlite", "rows": 3})]
OWN = [
    *(root("with an event", events=[["done", 3, {"n": 1}]]), root("marked", {"agent.run.product": "shop"})),
    *(root("marked later", later={"agent.run.id": "mine"}), root("with a call"), inside("with a call", CALL)),
    *(
        root("with a tool call"),
        inside("with a tool call", TOOL),
        root("with an agent"),
        inside("with an agent", AGENT),
    ),
    *(root("a call itself", CALL), {**root("below a span elsewhere"), "parent": "elsewhere"}),
]
"""Roots that do what a user may have asked for, and what is inside them."""


def program(name, service, spans):
    """Return a program of one process, each of whose roots has a trace of its own."""
    numbers = {}
    spans = [{**span, "trace": numbers.setdefault(span.get("parent", span["id"]), len(numbers) + 1)} for span in spans]
    return RecordedProgram(name, service or "none", {"service.name": service} if service else {}, spans, [])


def marked(way, *programs):
    for one in programs:
        way.record(one)
    traces = {trace for one in programs for trace in one.trace_ids(way.name)}
    return {row["job_type"] for row in way.rows() if row["trace_id"] in traces and row["plumbing"]}


@pytest.fixture(scope="module", params=["live", "exporter", "otlp"])
def way(request, tmp_path_factory):
    with opened(request.param, tmp_path_factory.mktemp(request.param)) as way:
        yield way


def test_idle_roots_of_a_service_with_agents_are_plumbing_wherever_they_come(way):
    """Before its first agent's run and after it; roots with calls, events, marks or agents of their own are not."""
    parts = [IDLE[:1], OWN, [root("agent", AGENT)], IDLE[1:]]
    programs = [program(f"part {number}", "agents", part) for number, part in enumerate(parts)]
    assert marked(way, *programs) == {"idle", "idle with attributes"}


def test_roots_of_a_service_without_agents_are_runs(way):
    """Whatever their number; also those of programs that name no service."""
    programs = [program("shop", "shop", IDLE), program("nameless", None, [*IDLE, root("agent", AGENT)])]
    assert marked(way, *programs) == set()


@pytest.mark.parametrize("order", list(permutations(range(2))))
def test_a_model_call_shows_that_a_service_is_an_agents(way, order):
    """Also where nothing names an agent."""
    service = f"calls {order}"
    parts = [IDLE[:1], [root("work"), inside("work", CALL)]]
    assert marked(way, *(program(f"{service}{at}", service, parts[at]) for at in order)) == {"idle"}


def test_roots_of_a_coding_agent_are_plumbing_without_any_agents_run(way):
    """Its events are its log."""
    spans = [root("auth", events=[["log", 3, {"n": 1}]]), root("turn"), inside("turn", TOOL)]
    assert marked(way, program("codex", "codex_exec", spans)) == {"auth"}


def test_a_run_of_the_client_is_never_plumbing(tmp_path, monkeypatch):
    """It shows that the service is an agent's, whose other roots are."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "agents")
    config = isolated_config(tmp_path)
    client = TelemetryClient(config)
    client.start_run(agent_name="agents", job_type="nothing")
    with client.track_run("agents", "nothing either"):
        pass
    assert client.flush(60)
    assert [run.plumbing for run in LocalRuns(config).runs(RunQuery())] == [0, 0]
    client.close()
