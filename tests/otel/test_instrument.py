"""Programs that know nothing of this package, or one line of it: real processes, real loaders."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from on_disk import ROOT, child_environment, rows_of

from otel_agent_telemetry.testing import isolated_config

INSTRUMENT = str(Path(sys.executable).with_name("opentelemetry-instrument"))
PLAIN = """
    from opentelemetry import trace

    tracer = trace.get_tracer("app")
    with tracer.start_as_current_span("tidy up") as span:
        span.add_event("looked", {"files": 3})
        with tracer.start_as_current_span("sweep"):
            pass
"""
OTHERS = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "fastapi,langchain,openai_agents"}
"""Instrumentations whose frameworks would be imported for seconds, and not used."""
QUIET = {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}


@pytest.fixture
def config(tmp_path):
    return isolated_config(tmp_path / "base")


def ran(config, program, *, env=None, auto=False, code=0):
    """What a program printed, run from a file with or without the auto-instrumentation command."""
    path = config.base_dir.with_name("app.py")
    path.write_text(textwrap.dedent(program))
    told = {"TELEMETRY_BASE_DIR": str(config.base_dir), "TELEMETRY_EXIT_TIMEOUT_S": "20"}  # rows, on a busy machine too
    environment = {**child_environment(), **told, **OTHERS, "OTEL_SERVICE_NAME": "plain"}
    command = [INSTRUMENT, sys.executable, str(path)] if auto else [sys.executable, str(path)]
    done = subprocess.run(
        command, cwd=ROOT, env={**environment, **(env or {})}, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == code, done.stderr
    return done


def only_row(config):
    (row,) = rows_of(config).values()
    return row


def assert_recorded(config):
    """The plain program is one run, with its step."""
    row = only_row(config)
    assert (row["agent_name"], row["job_type"], row["status"]) == ("plain", "tidy up", "success")
    assert row["metrics_json"] == '{"gen_ai":{"steps":1}}'


DOORS = {
    "instrumentor": (QUIET, True),
    "exporter": ({**QUIET, "OTEL_TRACES_EXPORTER": "agent_runs", "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*"}, True),
    "exporter beside another": (
        {**QUIET, "OTEL_TRACES_EXPORTER": "agent_runs,console", "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*"},
        True,
    ),
    "provider": ({"OTEL_PYTHON_TRACER_PROVIDER": "agent_runs"}, False),
    "all of them": (
        {**QUIET, "OTEL_TRACES_EXPORTER": "agent_runs", "OTEL_PYTHON_TRACER_PROVIDER": "agent_runs"},
        True,
    ),
}


@pytest.mark.parametrize("door", DOORS)
def test_a_plain_program_is_recorded_through_every_door(config, door):
    """One row, once, whichever door is used, or all of them."""
    env, auto = DOORS[door]
    done = ran(config, PLAIN, env=env, auto=auto)
    assert_recorded(config)
    if "console" in env.get("OTEL_TRACES_EXPORTER", ""):
        assert '"name": "tidy up"' in done.stdout


DECLARED = """
file_format: "1.0"
resource:
  attributes:
    - {name: service.name, value: plain}
tracer_provider:
  processors:
    - simple: {exporter: {console: {}}}
"""


def test_a_plain_program_is_recorded_under_declarative_configuration(config, tmp_path):
    """The file knows nothing of us: the instrumentor adds us to the provider that it made."""
    (tmp_path / "otel.yaml").write_text(DECLARED)
    done = ran(config, PLAIN, env={"OTEL_CONFIG_FILE": str(tmp_path / "otel.yaml")}, auto=True)
    assert_recorded(config)
    assert '"name": "tidy up"' in done.stdout


def test_a_plain_program_without_a_door_leaves_nothing(config):
    """Being installed is no reason to write."""
    ran(config, PLAIN)
    assert not config.base_dir.exists()


def test_an_instrumented_program_without_spans_leaves_nothing(config):
    """No file, no thread, no database before the first run."""
    done = ran(
        config,
        "import threading, sys; print(threading.active_count(), 'sqlalchemy' in sys.modules)",
        env=QUIET,
        auto=True,
    )
    assert done.stdout.split() == ["1", "False"]
    assert not config.base_dir.exists()


ONE_LINE = "import otel_agent_telemetry\nassert otel_agent_telemetry.instrument()\n"


def test_one_line_records_a_plain_program(config):
    """Where nobody set a provider ours stands in; twice is once."""
    ran(config, ONE_LINE + ONE_LINE + textwrap.dedent(PLAIN))
    assert_recorded(config)


SDK = """
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry import trace

mine, seen = TracerProvider(resource=Resource.create()), InMemorySpanExporter()
mine.add_span_processor(SimpleSpanProcessor(seen))
trace.set_tracer_provider(mine)
assert trace.get_tracer_provider() is mine
"""
SEEN = "\nassert [span.name for span in seen.get_finished_spans()] == ['sweep', 'tidy up']\n"


@pytest.mark.parametrize("parts", [(SDK, ONE_LINE), (ONE_LINE, SDK)], ids=["after", "before"])
def test_one_line_goes_with_an_application_s_own_provider_in_either_order(config, parts):
    """The application's own telemetry goes on; ours is added to it, and its provider is never refused."""
    done = ran(config, "".join(parts) + textwrap.dedent(PLAIN) + SEEN)
    assert done.stderr == ""
    assert_recorded(config)


def test_tracers_that_were_got_before_go_over_to_the_application_s_provider(config):
    """Modules get theirs when they are imported; one was even used: their spans reach the application's exporter."""
    early = """
from opentelemetry import trace
before = trace.get_tracer("before")
"""
    between = """
between = trace.get_tracer("between")
with between.start_as_current_span("early"):
    pass
with before.start_as_current_span("early too"):
    pass
"""
    late = """
for tracer in (before, between):
    with tracer.start_as_current_span("later"):
        pass

@between.start_as_current_span("decorated")
def work():
    return 1

assert work() == 1
assert [span.name for span in seen.get_finished_spans()] == ["later", "later", "decorated"]
"""
    ran(config, early + ONE_LINE + between + SDK + late)
    jobs = sorted(row["job_type"] for row in rows_of(config).values())
    assert jobs == ["decorated", "early", "early too", "later", "later"]


def test_a_second_configuration_on_one_provider_is_refused(config):
    """A run must not be recorded twice."""
    program = """
        import otel_agent_telemetry
        assert otel_agent_telemetry.instrument()
        assert not otel_agent_telemetry.instrument(runs="agents")
    """
    done = ran(config, textwrap.dedent(program) + textwrap.dedent(PLAIN))
    assert "takes no span processors" in done.stderr
    assert_recorded(config)


def test_a_provider_that_takes_no_processors_is_left_alone(config):
    """False and one warning; the program runs."""
    program = """
        from opentelemetry import trace
        import otel_agent_telemetry
        trace.set_tracer_provider(trace.NoOpTracerProvider())
        print(otel_agent_telemetry.instrument())
    """
    done = ran(config, program)
    assert done.stdout.strip() == "False"
    assert "takes no span processors" in done.stderr


@pytest.mark.parametrize("env", [{"OTEL_SDK_DISABLED": "true"}])
def test_a_disabled_sdk_records_nothing(config, env):
    """OpenTelemetry's own switch."""
    done = ran(
        config,
        "import otel_agent_telemetry; print(otel_agent_telemetry.instrument())" + textwrap.dedent(PLAIN),
        env=env,
    )
    assert done.stdout.strip() == "False"
    assert rows_of(config) == {}


def test_options_of_the_one_line_are_settings(config):
    """By name; one that is none is a warning, not an error of the program's."""
    narrowed = "import otel_agent_telemetry\nassert otel_agent_telemetry.instrument(runs='marked')\n"
    ran(config, narrowed + textwrap.dedent(PLAIN))
    assert rows_of(config) == {}
    done = ran(config, "import otel_agent_telemetry\nprint(otel_agent_telemetry.instrument(nonsense=1))")
    assert done.stdout.strip() == "False"
    assert "agent runs are not recorded" in done.stderr


def test_a_folder_that_cannot_be_written_breaks_no_program(config):
    """Through each kind of door the program ends as it would."""
    config.base_dir.parent.mkdir(exist_ok=True)
    config.base_dir.write_text("a file")
    for env, auto in (DOORS[door] for door in ("instrumentor", "exporter", "provider")):
        done = ran(config, PLAIN + "\n    print('went on')", env=env, auto=auto)
        assert "went on" in done.stdout


def test_events_that_come_as_log_records_are_events_of_the_run(config):
    """A logger provider of the SDK gets our processor too."""
    program = """
        from opentelemetry import _logs, trace
        from opentelemetry.sdk._logs import LoggerProvider
        _logs.set_logger_provider(LoggerProvider())
        import otel_agent_telemetry
        from opentelemetry.sdk.trace import TracerProvider
        trace.set_tracer_provider(TracerProvider())
        otel_agent_telemetry.instrument()
        with trace.get_tracer("app").start_as_current_span("work"):
            _logs.get_logger("app").emit(event_name="looked", body="at it")
    """
    ran(config, program)
    journal = "".join(path.read_text() for path in config.ndjson_dir.glob("*.ndjson"))
    assert '"event_type":"looked"' in journal


def test_a_program_that_never_ends_its_root_is_closed_with_a_reason(config):
    """A framework that leaks its span: closed when the process exits."""
    ran(config, ONE_LINE + "from opentelemetry import trace\ntrace.get_tracer('app').start_span('leaked')\n")
    row = only_row(config)
    assert row["status"] == "failed"
    assert "still open" in row["error_summary"]


def test_an_instrumentor_is_taken_back_without_harm(config):
    """`uninstrument` is part of what instrumentors offer."""
    program = """
        from otel_agent_telemetry.otel.instrument import AgentRunsInstrumentor
        one = AgentRunsInstrumentor()
        one.instrument(skip_dep_check=True)
        one.uninstrument()
    """
    assert ran(config, program).stderr == ""


def test_the_environment_is_inherited_by_a_worker_pool(config):
    """`multiprocessing` with each way to start: every worker's runs are there, once."""
    program = """
        import multiprocessing, sys
        from opentelemetry import trace

        def work(number):
            with trace.get_tracer("app").start_as_current_span(f"job {number}"):
                return number

        if __name__ == "__main__":
            for method in ("fork", "spawn"):
                with multiprocessing.get_context(method).Pool(2, maxtasksperchild=2) as pool:
                    pool.map(work, range(6), chunksize=1)
                    pool.close()
                    pool.join()
    """
    ran(config, program, env={"OTEL_PYTHON_TRACER_PROVIDER": "agent_runs", "PYTHONWARNINGS": "ignore"})
    jobs = sorted(row["job_type"] for row in rows_of(config).values())
    assert jobs == sorted(f"job {number}" for number in range(6) for _ in range(2))
