"""`agent-telemetry instrument`: real programs that know nothing of this package, started by the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import venv

import pytest
from on_disk import ROOT, child_environment, rows_of

from otel_agent_telemetry.testing import isolated_config

PLAIN = """
    from opentelemetry import trace

    with trace.get_tracer("app").start_as_current_span("tidy up"):
        pass
"""
OWN_PROVIDER = """
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
    trace.set_tracer_provider(provider)
    with trace.get_tracer("app").start_as_current_span("tidy up"):
        pass
"""


@pytest.fixture
def config(tmp_path):
    return isolated_config(tmp_path / "base")


@pytest.fixture
def started(config, tmp_path):
    """Start a command under `agent-telemetry instrument` in the folder of the test; return the process."""

    def start(*command, program=PLAIN, env=None):
        (tmp_path / "report.py").write_text(textwrap.dedent(program))
        environment = child_environment() | {
            "TELEMETRY_BASE_DIR": str(config.base_dir),
            "TELEMETRY_EXIT_TIMEOUT_S": "20",
            # Frameworks of the other tests are installed, too: their instrumentations would import them for seconds.
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*",
            "PYTHONPATH": str(ROOT),
        }
        line = [sys.executable, "-m", "otel_agent_telemetry.cli", "instrument", *command]
        environment.update(env or {})
        return subprocess.Popen(
            line, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return start


def ended(process):
    """What a process printed, and its exit status."""
    out, err = process.communicate(timeout=120)
    return out, err, process.returncode


def names_of(config):
    """Agent, service, job type and status of the only run."""
    (row,) = rows_of(config).values()
    return row["agent_name"], row["service_name"], row["job_type"], row["status"]


@pytest.mark.parametrize("command", [("report.py",), (sys.executable, "report.py"), (sys.executable, "-m", "report")])
def test_a_program_is_recorded_under_the_name_of_its_script(config, started, command):
    """Nothing is printed, nothing is exported, and no run is called `unknown_service:python`."""
    assert ended(started(*command)) == ("", "", 0)
    assert names_of(config) == ("report", "report", "tidy up", "success")


def test_a_service_name_that_is_set_stands(config, started):
    """The environment's name is the user's decision."""
    assert ended(started("report.py", env={"OTEL_SERVICE_NAME": "reports"})) == ("", "", 0)
    assert names_of(config)[:2] == ("reports", "reports")


def test_the_application_s_own_provider_goes_on_working(config, started):
    """Its exporter gets the span as before; the run is recorded beside it, once."""
    out, err, code = ended(started("report.py", program=OWN_PROVIDER))
    assert (out.count('"name": "tidy up"'), err, code) == (1, "", 0)
    assert names_of(config) == ("report", "report", "tidy up", "success")


def test_arguments_and_exit_status_are_the_program_s(started):
    """Options after the command belong to it, also those that we know ourselves."""
    program = "import sys; print(sys.argv[1:]); sys.exit(7)"
    out, err, code = ended(started("report.py", "--base-dir", "x", "-h", "--", "--version", program=program))
    assert (out, err, code) == ("['--base-dir', 'x', '-h', '--', '--version']\n", "", 7)


def test_a_signal_reaches_the_program(started):
    """The program has taken the place of the command: the same process."""
    process = started("report.py", program="import os, time; print(os.getpid(), flush=True); time.sleep(600)")
    assert int(process.stdout.readline()) == process.pid
    process.send_signal(signal.SIGTERM)
    assert ended(process)[2] == -signal.SIGTERM


@pytest.mark.parametrize(("name", "mode", "code"), [("none", None, 127), ("text", 0o644, 126)])
def test_a_command_that_cannot_be_started_is_named(started, tmp_path, name, mode, code):
    """With the exit statuses of shells."""
    if mode is not None:
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(mode)
    out, err, found = ended(started(f"./{name}"))
    assert (out, found) == ("", code)
    assert err.startswith(f"./{name}: cannot be started: ")
    assert err.count("\n") == 1


def test_the_sitecustomize_of_the_application_runs_first(config, started, tmp_path):
    """A distribution or a debugger has its own; both take effect, and our folder is on no path of the program."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/sitecustomize.py").write_text("import sys; sys.theirs = True")
    program = PLAIN + "    import sys\n    print(sys.theirs, [path for path in sys.path if 'at_start' in path])\n"
    path = os.pathsep.join((str(tmp_path / "theirs"), str(ROOT)))
    assert ended(started("report.py", program=program, env={"PYTHONPATH": path})) == ("True []\n", "", 0)
    assert names_of(config)[0] == "report"


def test_python_processes_that_the_program_starts_are_recorded(config, started):
    """As a script that calls another, or a pool that spawns its workers, does."""
    program = "import subprocess, sys; subprocess.run([sys.executable, 'child.py'], check=True)"
    process = started(sys.executable, "-c", f"open('child.py', 'w').write({textwrap.dedent(PLAIN)!r}); {program}")
    assert ended(process) == ("", "", 0)
    assert names_of(config)[0] == "child"


def test_an_interpreter_without_the_package_is_left_alone(config, started, tmp_path):
    """A script of ours may call a tool that lives in an environment of its own."""
    venv.create(tmp_path / "other", with_pip=False)
    other = tmp_path / "other/bin/python"
    program = f"""
        import os, subprocess
        first = os.environ["PYTHONPATH"].split(os.pathsep)[0]  # without the checkout, from which the tests run
        environment = os.environ | {{"PYTHONPATH": first}}
        subprocess.run([{str(other)!r}, "-c", "import sitecustomize; print(1)"], env=environment, check=True)
    """
    assert ended(started("report.py", program=program)) == ("1\n", "", 0)
    assert not config.base_dir.exists()


INSTRUMENTATION = """
class {name}:
    def instrument(self):
        {body}
"""


def test_installed_instrumentations_are_switched_on_and_a_broken_one_costs_only_itself(started, tmp_path):
    """One by one: what raises is named in one line; what is disabled is not even imported."""
    bodies = {"good": "print('instrumented')", "broken": "raise OSError('no')", "unwanted": "print('unwanted')"}
    for name, body in bodies.items():
        (tmp_path / f"{name}.py").write_text(INSTRUMENTATION.format(name=name.title(), body=body))
        information = tmp_path / f"{name}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        entry = f"[opentelemetry_instrumentor]\n{name} = {name}:{name.title()}\n"
        (information / "entry_points.txt").write_text(entry)
    disabled = "unwanted,fastapi,langchain,openai_agents,logfire"
    env = {"PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    out, err, code = ended(started("report.py", env=env | {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": disabled}))
    assert (out, code) == ("instrumented\n", 0)
    assert err == "broken is not instrumented: OSError: no\n"
