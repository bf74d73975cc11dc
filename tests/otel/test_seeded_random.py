"""Programs that seed `random`, which OpenTelemetry draws ids from: as many rows as runs, and their own numbers."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from on_disk import PATIENCE_S, journal_lines, rows_of, run_python
from opentelemetry import trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider
from seeded_programs import RUNS, run_shape

from otel_agent_telemetry import AgentRunLogProcessor, AgentRunSpanProcessor
from otel_agent_telemetry.operations.deliver import deliver_now
from otel_agent_telemetry.operations.run_tree import read_tree
from otel_agent_telemetry.operations.verify import verify
from otel_agent_telemetry.otel.propagation import current_run_id
from otel_agent_telemetry.otel.provider import adopt
from otel_agent_telemetry.storage.queries import list_runs
from otel_agent_telemetry.storage.run_filters import RunQuery
from otel_agent_telemetry.storage.store import reading_database
from otel_agent_telemetry.testing import capture_runs, isolated_config

NUMBERS = """
import random, sys
random.seed(42)
way, base = sys.argv[1:]
if way == "instrument":
    from opentelemetry import trace
    from otel_agent_telemetry import instrument
    from otel_agent_telemetry.testing import isolated_config
    assert instrument(isolated_config(base))
    with trace.get_tracer("app").start_as_current_span("work") as span:
        span.add_event("seen")
elif way != "without":
    from opentelemetry.sdk.trace import TracerProvider
    from otel_agent_telemetry import TelemetryClient
    from otel_agent_telemetry.testing import isolated_config
    provider = TracerProvider() if way == "provider" else None
    client = TelemetryClient(isolated_config(base), tracer_provider=provider)
    with client.track_run("agent", "job") as run:
        run.log_event("seen", {})
    client.flush(20)
print([random.random() for _ in range(5)])
"""


@pytest.mark.parametrize("way", ["client", "provider", "instrument"])
def test_a_seeded_experiment_draws_the_same_numbers_with_us(tmp_path, way):
    """A client's run, on its own provider or on the application's, and `instrument()`."""
    without = run_python(NUMBERS, "without", tmp_path)
    assert run_python(NUMBERS, way, tmp_path) == without


@pytest.mark.parametrize("route", ["live", "exporter"])
@pytest.mark.parametrize("shape", RUNS)
def test_every_run_of_a_seeded_program_has_a_row(tmp_path, shape, route):
    """Each with its step and its event; what was issued, journalled and stored agrees."""
    config = isolated_config(tmp_path / "base")
    run_shape(tmp_path, shape, route, config.base_dir)
    deliver_now(config, timeout_s=PATIENCE_S)
    rows = rows_of(config)
    assert len(rows) == RUNS[shape]
    assert len({row["run_id"] for row in rows.values()}) == RUNS[shape]
    mixes = (shape, route) == ("agents", "exporter")  # at the same time, from one sender: no time tells them apart
    for record_type in ("event",) if mixes else ("span", "event"):
        lines = [line for line in journal_lines(config, record_type) if line.get("status") != "running"]
        assert sorted(line["event_id"] for line in lines) == sorted(row["event_id"] for row in rows.values())
    with reading_database(config) as connection:
        records = list_runs(connection, RunQuery(limit=100))
    for run in records:
        tree = read_tree(config, run, limit=10)
        assert [event.event_type for event in tree.events] == ["began"]
        assert mixes or [step.name for step in tree.steps] == ["call"]
    report = verify(config)
    assert report.ok, report


def seeded_provider(processor):
    """An application's provider, which draws its ids from `random`."""
    provider = TracerProvider(shutdown_on_exit=False)
    adopt(provider, processor)
    return provider


def test_two_open_runs_with_equal_ids_are_two_runs():
    """In two threads of a process; each keeps its own events, steps, log events and name for its children."""
    with capture_runs() as captured:
        processor = AgentRunSpanProcessor(recorder=captured.recorder)
        tracer = seeded_provider(processor).get_tracer("app")
        logs = LoggerProvider(shutdown_on_exit=False)
        logs.add_log_record_processor(AgentRunLogProcessor(processor))
        logger = logs.get_logger("app")
        both, seeding = threading.Barrier(2, timeout=60), threading.Lock()

        def work(name):
            with seeding:
                random.seed(42)
                root = tracer.start_span(name, attributes={"agent.run.agent_name": name})
            with trace.use_span(root, end_on_exit=True):
                both.wait()
                root.add_event(f"{name} event")
                logger.emit(event_name=f"{name} log", body=name)
                assert current_run_id() == root.attributes["agent.run.id"]
                with tracer.start_as_current_span(f"{name} step"):
                    both.wait()
            return root.get_span_context().span_id

        with ThreadPoolExecutor(2) as threads:
            ids = list(threads.map(work, ["one", "two"]))
        assert ids[0] == ids[1]
        runs = {run.agent_name: run for run in captured.runs}
        assert {name: run.status for name, run in runs.items()} == {"one": "success", "two": "success"}
        assert runs["one"].event_id != runs["two"].event_id
        for name, run in runs.items():
            events = [event.event_type for event in captured.events if event.event_id == run.event_id]
            assert events == [f"{name} event", f"{name} log"]
            steps = {step.name for step in captured.spans if step.event_id == run.event_id}
            assert steps == {f"{name} step"}
