"""What all commands share: exit statuses, errors as one line, and escaped text on a terminal."""

from __future__ import annotations

import json
import os
import pty
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from command import COMMAND, agent_telemetry, agent_telemetry_process, record_runs, start_command
from on_disk import ROOT, child_environment
from typer.testing import CliRunner

from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.cli.app import _with_base_dir_first, app
from otel_agent_telemetry.cli.error_handling import ExitCode

HOSTILE = "[red]\x1b[31m\x07\x9b2J\u202eevil\r\nnew[/red]"
READS = (["runs"], ["show", "run-0"], ["stats"], ["tail"], ["verify"], ["doctor"], ["show", "nobody"])


def test_exit_codes_are_as_documented():
    """The numbers are public."""
    assert {code.name: code.value for code in ExitCode} == {
        "OK": 0,
        "PROBLEM": 1,
        "USAGE": 2,
        "NOT_FOUND": 3,
        "STORE_UNAVAILABLE": 4,
        "TIMEOUT": 5,
        "NOT_COMPARED": 6,
        "INTERRUPTED": 130,
    }


def test_documentation_names_every_command_option_and_exit_code():
    """docs/cli.md is the reference: every command, option and status is in it."""
    import typer

    from otel_agent_telemetry.cli.app import app

    text = (ROOT / "docs" / "cli.md").read_text("utf-8")
    group = typer.main.get_command(app)
    for name, command in group.commands.items():
        section = text.split(f"## {name}\n")
        assert len(section) == 2, name
        section = section[1].split("\n## ")[0]
        for parameter in command.params:
            if parameter.name != "help" and parameter.param_type_name == "option":
                assert max(parameter.opts, key=len) in section, (name, parameter.opts)
    for code in ExitCode:
        assert f"| {code.value} |" in text


HEAVY = ("sqlalchemy", "alembic", "opentelemetry.sdk", "httpx", "rich")


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [(["--help"], []), (["tail"], []), (["show", "x", "--no-sync"], ["sqlalchemy"])],
    ids=lambda given: " ".join(given) or "nothing",
)
def test_a_command_loads_no_heavy_module_that_it_does_not_need(tmp_path, arguments, needed):
    """Most of the time of a short command is its imports: a database and an HTTP client, only where they are used."""
    code = (
        f"import sys; sys.argv = ['agent-telemetry', *{arguments!r}]\n"
        "from otel_agent_telemetry.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print('LOADED', [m for m in {HEAVY!r} if m in sys.modules])"
    )
    environment = {**child_environment(), "TELEMETRY_BASE_DIR": str(tmp_path), "TELEMETRY_DISCOVER_SERVICE": "false"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == f"LOADED {needed}"


def test_version_names_the_schema(config):
    """`--version` ends at once."""
    result = agent_telemetry(config, "--version")
    assert result.code == 0
    assert "schema version 9" in result.out


@pytest.mark.parametrize("arguments", [["nonsense"], ["runs", "--nonsense"], ["show"], ["replay", "--from-day", "x"]])
def test_invalid_arguments_are_a_usage_error(config, arguments):
    """Status 2, on stderr."""
    result = agent_telemetry(config, *arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err


@pytest.fixture
def hostile_runs(config):
    """Runs whose ids, names, payloads and errors hold control characters."""
    client = TelemetryClient(config)
    with client.track_run(HOSTILE, HOSTILE, run_id="run-0", error_summary=HOSTILE) as run:
        run.log_event(HOSTILE, {HOSTILE: HOSTILE})
    client.end_run(client.start_run("x", "y", run_id=HOSTILE.replace("/", "-")), "failed", error_summary=HOSTILE)
    assert client.flush()
    client.close()
    return config


def test_hostile_text_is_escaped_on_a_terminal(hostile_runs):
    """Ids, names, payloads and logs cannot colour, move, beep, turn the direction or begin a line."""
    status, shown = on_a_terminal(EACH, "--base-dir", str(hostile_runs.base_dir))
    assert (status, "STATUSES [0, 0, 0, 0, 0, 0, 3]" in shown) == (0, True)
    for text in ("\x1b[31m\x07", "\x9b2J", "\u202e", "\x07", "\nnew"):
        assert text not in shown


@pytest.mark.parametrize("command", READS, ids=" ".join)
def test_hostile_text_is_escaped_in_a_pipe(hostile_runs, command):
    """The same characters in plain columns and notes."""
    piped = agent_telemetry(hostile_runs, *command)
    assert not set(piped.out + piped.err) & {"\x1b", "\x07", "\x9b", "\u202e", "\r"}
    if command == ["runs"]:
        assert "[red]\\x1b[31m\\x07\\x9b2J\\u202e" in piped.out


EACH = (sys.executable, "-c", f"""
import sys
from otel_agent_telemetry.cli.app import app
statuses = []
for command in {READS}:
    try:
        app([*sys.argv[1:], *command], prog_name="agent-telemetry")
    except SystemExit as end:
        statuses.append(end.code)
print("STATUSES", statuses)
""")  # fmt: skip
"""All reading commands in one process, then their exit statuses."""


def on_a_terminal(command, *arguments, env=None):
    """Return the exit status and everything that a terminal of 200 columns gets."""
    ours, theirs = pty.openpty()
    environment = child_environment({"TERM": "xterm-256color", "COLUMNS": "200", **(env or {})})
    with subprocess.Popen(
        [*command, *arguments],
        cwd=ROOT, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True,
    ) as process:  # fmt: skip
        os.close(theirs)
        received = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:
                break
            if not part:
                break
            received += part
        status = process.wait(timeout=60)
    os.close(ours)
    return status, received.decode()


def test_a_terminal_gets_colour_unless_no_color_is_set(config):
    """Statuses are coloured for people; NO_COLOR turns that off."""
    record_runs(config)
    arguments = ("--base-dir", str(config.base_dir), "runs")
    assert "\x1b[" in on_a_terminal(COMMAND, *arguments)[1]
    shown = on_a_terminal(COMMAND, *arguments, env={"NO_COLOR": "1"})[1]
    assert "\x1b[3" not in shown
    assert "run-2" in shown  # an id that the application gave is shown as it is


def test_a_closed_pipe_is_not_an_error(config):
    """`| head -1`: status 0 and nothing on stderr."""
    record_runs(config, 2)
    with TelemetryClient(config).track_run("agent", "job", run_id="long") as run:
        for _ in range(3000):
            run.log_event("tick", {"filler": "x" * 100})
    process = start_command(config, "tail", "-n", "100000")
    assert process.stdout.readline()
    process.stdout.close()
    _, err = process.communicate(timeout=60)[0], process.stderr
    assert process.returncode == 0
    assert err.closed or err.read() == ""


@pytest.mark.parametrize("words", [["--version"], ["runs", "--json"]])
@pytest.mark.parametrize("place", ["/dev/full", None])
def test_a_full_or_closed_stdout_is_status_4_and_one_line(config, words, place):
    """Whoever redirects the output into a file must not take half of it for all."""
    record_runs(config, 1)
    line = [*COMMAND, "--base-dir", str(config.base_dir), *words]
    redirected = shlex.join(line) + (" >&-" if place is None else f" >{place}")
    # What stands in the buffer fails when it is written out, at the latest at the end of the process.
    environment = {name: text for name, text in child_environment().items() if name != "PYTHONUNBUFFERED"}
    ended = subprocess.run(["sh", "-c", redirected], env=environment, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 4
    assert len(ended.stderr.splitlines()) == 1
    assert ("stdout is closed" if place is None else "No space left") in ended.stderr


def test_a_database_of_another_application_is_refused_untouched(config):
    """Reads and writes exit with status 4; not a byte of it changes."""
    config.db_path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(config.db_path)) as other:
        other.execute("CREATE TABLE customers (name TEXT)")
        other.commit()
    before = config.db_path.read_bytes()
    for command in (["runs"], ["stats"], ["init-db"], ["verify"], ["replay"]):
        result = agent_telemetry(config, *command)
        assert (result.code, result.out) == (4, "")
        assert "another application" in result.err
        assert len(result.err.splitlines()) == 1
    doctor = agent_telemetry(config, "doctor")
    assert doctor.code == 1
    assert "another application" in doctor.out
    assert config.db_path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(config):
    """Any file in the database's place: status 4, one line with a hint."""
    config.db_path.parent.mkdir(parents=True)
    config.db_path.write_text("dear diary " * 1000)
    result = agent_telemetry(config, "runs")
    assert result.code == 4
    assert "TELEMETRY_DB_PATH" in result.err


def test_a_locked_database_is_unavailable_after_the_busy_timeout(config):
    """Status 4 and the hint, after the configured busy timeout."""
    record_runs(config, 1)
    with closing(sqlite3.connect(config.db_path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        result = agent_telemetry(config, "runs", env={"TELEMETRY_DB_BUSY_TIMEOUT_MS": "100"})
        doctor = agent_telemetry(config, "doctor")
    assert result.code == 4
    assert "locked" in result.err
    assert doctor.code == 1
    assert "locked" in doctor.out
    assert agent_telemetry(config, "runs").code == 0


def test_a_base_folder_that_is_a_file_is_one_clear_line(config):
    """Whatever cannot be opened is reported without a traceback."""
    config.base_dir.write_text("a file")
    for command in (["init-db"], ["sync"], ["verify"], ["runs"], ["tail"]):
        result = agent_telemetry(config, *command)
        assert result.code in (0, 4)
        assert len(result.err.splitlines()) <= 1


def test_an_encoding_without_our_characters_is_no_error(config):
    """A terminal that knows ASCII only gets escapes."""
    client = TelemetryClient(config)
    client.end_run(client.start_run("agent-é-☃", "job", run_id="snow"))
    assert client.flush()
    result = agent_telemetry_process(config, "runs", env={"PYTHONIOENCODING": "ascii"})
    assert result.code == 0
    assert "\\u2603" in result.out


@pytest.mark.parametrize(
    "place", [("--base-dir", "{}", "runs"), ("runs", "--base-dir", "{}"), ("runs", "--base-dir={}")]
)
def test_the_base_folder_may_stand_before_or_after_the_command(config, place):
    """People add it at the end of a line."""
    record_runs(config, 1)
    words = [word.format(config.base_dir) for word in place]
    result = CliRunner().invoke(app, [*words, "--json"], env={"TELEMETRY_BASE_DIR": str(config.base_dir / "other")})
    assert [run["run_id"] for run in json.loads(result.stdout)] == ["run-0"]


def test_what_belongs_to_a_program_that_is_started_stays_its_own():
    """Its `--base-dir` is not ours."""
    for line in (
        ["run", "--", "tool", "--base-dir", "x"],
        ["instrument", "app.py", "--base-dir", "x"],
        ["runs", "--", "--base-dir"],
    ):
        assert _with_base_dir_first(line) == line
    assert _with_base_dir_first(["run", "--", "a"]) == ["run", "--", "a"]
    assert _with_base_dir_first(["show", "x", "--base-dir"]) == ["--base-dir", "show", "x"]


def test_the_package_is_the_command_and_completes_words_in_a_shell(tmp_path):
    """`python -m otel_agent_telemetry`; the completion is the shell's own."""
    command = [sys.executable, "-m", "otel_agent_telemetry"]
    environment = child_environment(
        {"_AGENT_TELEMETRY_COMPLETE": "complete_bash", "COMP_WORDS": "agent-telemetry sh", "COMP_CWORD": "1"}
    )
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["show"], done.stderr
