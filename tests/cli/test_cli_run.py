"""`agent-telemetry run`: the run that a command becomes, and that recording never changes what the command does."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys

import pytest
from command import COMMAND, agent_telemetry, agent_telemetry_process, start_command
from on_disk import PATIENCE_S, ROOT, buffer_lines, child_environment, eventually, rows_of

from otel_agent_telemetry.cli.run import _labels
from otel_agent_telemetry.operations.command_run import Asked, _environment, _kept_arguments

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX")

CHILD = (
    "import os, sys\n"
    "from otel_agent_telemetry import TelemetryClient\n"
    "with TelemetryClient().track_run('inner', 'job'): pass\n"
    "print(os.environ['TELEMETRY_RUN_ID'], os.environ['TELEMETRY_RUN_EVENT_ID'])\n"
    "print('password=hunter2hunter2 is wrong', file=sys.stderr)\n"
    "sys.exit(3)"
)


def test_a_command_that_fails_is_a_failed_run_with_its_last_lines(config):
    """What it starts belongs to it; streams and exit status are the command's; its place and arguments are known."""
    result = agent_telemetry_process(
        config, "run", "--agent", "nightly", "--job-type", "build", "--label", "team=search", "--",
        sys.executable, "-c", CHILD, "--token", "abcd1234efgh",
    )  # fmt: skip
    assert (result.code, result.err) == (3, "password=hunter2hunter2 is wrong\n")
    rows = {row["agent_name"]: row for row in rows_of(config).values()}
    outer, inner = rows["nightly"], rows["inner"]
    assert result.out.split() == [outer["run_id"], outer["event_id"]]
    assert (outer["status"], outer["job_type"], outer["error_summary"]) == ("failed", "build", "exit status 3")
    assert outer["error_details"] == "password=***REDACTED*** is wrong"
    context = json.loads(outer["context_json"])
    assert context["process.exit.code"] == 3
    assert context["process.working_directory"] == str(ROOT)
    assert context["process.command_args"][-2:] == ["--token", "***REDACTED***"]
    assert (inner["parent_run_id"], inner["trace_id"]) == (outer["run_id"], outer["trace_id"])
    assert json.loads(inner["labels"]) == json.loads(outer["labels"]) == {"team": "search"}


def test_the_name_of_the_command_is_the_agents(config):
    """And a run that ends with 0 is a success without an error, whatever it wrote to standard error."""
    result = agent_telemetry_process(config, "run", "/bin/sh", "-c", "echo warning >&2", "--help")
    assert (result.code, result.out, result.err) == (0, "", "warning\n")
    (row,) = rows_of(config).values()
    assert (row["agent_name"], row["job_type"], row["status"]) == ("sh", "command", "success")
    assert (row["error_summary"], row["error_details"]) == (None, None)


def test_a_service_that_is_away_leaves_the_commands_standard_error_alone(config):
    """Its records wait in the buffer."""
    away = {"TELEMETRY_API_URL": "http://127.0.0.1:9", "TELEMETRY_EXIT_TIMEOUT_S": "0.2"}
    result = agent_telemetry_process(config, "run", "--", "sh", "-c", "echo mine >&2; exit 3", env=away)
    assert (result.code, result.out, result.err) == (3, "", "mine\n")
    assert buffer_lines(config, "run")


def test_a_command_that_is_not_there_is_a_failed_run(config):
    """127, one line on standard error, and the same in the run."""
    result = agent_telemetry_process(config, "run", "--", "no-such-command")
    assert (result.code, result.err) == (127, "agent-telemetry: run: no-such-command: command not found\n")
    (row,) = rows_of(config).values()
    assert (row["status"], row["error_summary"]) == ("failed", "command not found")


LIMITED = (
    "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); os.execvp(sys.argv[1], sys.argv[1:])"
)


@pytest.mark.parametrize("trouble", ["no folder", "no space"])
def test_a_command_runs_where_nothing_can_be_recorded(config, tmp_path, trouble):
    """Its output and its exit status are as without us."""
    (tmp_path / "file").write_text("")
    base = tmp_path / "file" / "base" if trouble == "no folder" else config.base_dir
    before = [] if trouble == "no folder" else [sys.executable, "-c", LIMITED]
    done = subprocess.run(
        [*before, *COMMAND, "--base-dir", str(base), "run", "--", "sh", "-c", "echo out; kill -USR1 $$"], cwd=ROOT,
        env=child_environment(), text=True, capture_output=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("out\n", 138)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_stays_closed_and_nothing_goes_into_our_files(config, tmp_path, closed):
    """As cron jobs and daemons start programs; the next file that is opened has the number of the closed stream."""
    script = f"ls -l /proc/self/fd > '{tmp_path / 'seen'}'; echo stray; echo stray >&2; exit 5"
    line = shlex.join([*COMMAND, "--base-dir", str(config.base_dir), "run", "--", "sh", "-c", script])
    done = subprocess.run(
        ["sh", "-c", f"exec {line} {closed}"], cwd=ROOT, env=child_environment(), capture_output=True, check=False,
        timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 5
    assert "base" not in (tmp_path / "seen").read_text().replace(str(tmp_path / "seen"), "")
    assert agent_telemetry(config, "verify").code == 0


def test_a_run_whose_recorder_is_killed_is_closed_as_dead(config):
    """SIGKILL, which nobody can hand on: the next delivery closes the run, as that of any dead process."""
    process = start_command(config, "run", "--", "sh", "-c", "echo ready; read line")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE_S)

    def closed():
        agent_telemetry(config, "sync")
        return [row["status"] for row in rows_of(config).values()] == ["failed"]

    assert eventually(closed)
    process.communicate()


@pytest.mark.parametrize(
    ("line", "message"),
    [(["run"], "Missing argument"), (["run", "--label", "team", "--", "true"], "NAME=VALUE")],
)
def test_what_cannot_be_meant_is_refused_before_anything_runs(config, line, message):
    result = agent_telemetry(config, *line)
    assert result.code == 2
    assert message in result.err


def test_labels_are_names_and_values():
    assert _labels(["team=a=b", " ticket =X-1", "empty="]) == {"team": "a=b", "ticket": "X-1", "empty": ""}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["claude", "-p", "word " * 20], ["claude", "-p", "(100 characters left out)"]),
        (["x" * 100], ["x" * 100]),
        (["curl", "-u", "me:hunter2hunter2", "https://u:p1234567@h/"], ["curl", "-u", "me:***REDACTED***", "https://***REDACTED***@h/"]),
        (["env", "API_KEY=abcdef012345", "make"], ["env", "API_KEY=***REDACTED***", "make"]),
        (["make", "--password=hunter2hunter2"], ["make", "--password=***REDACTED***"]),
        ([os.fsdecode(b"caf\xe9")], ["caf?"]),
    ],
)  # fmt: skip
def test_arguments_are_kept_without_secrets_and_prompts(config, given, kept):
    """A prompt is content: `TELEMETRY_CAPTURE_CONTENT` keeps it."""
    assert _kept_arguments(given, config) == kept


def test_content_is_kept_where_it_is_asked_for(config):
    assert _kept_arguments(["word " * 20], config.with_(capture_content=True)) == ["word " * 20]


def test_the_environment_keeps_what_others_put_there(case):
    """Other members of the baggage and other resource attributes stay; an outer run's id is replaced."""
    asked = Asked(["true"], labels={"team": "a b"}, with_otlp=True)
    around = {
        "BAGGAGE": "agent_run.id=outer,tenant=7", "OTEL_RESOURCE_ATTRIBUTES": "agent_run.id=outer,service.name=x", "A": "1"
    }  # fmt: skip
    client = case.client(exit_timeout_s=0.0)
    config = client.config.with_(api_url="https://host.example/base", api_auth_token="abc,d")
    with client.track_run("agent", "job") as run:
        changed = _environment(asked, config, around)
    assert changed["BAGGAGE"] == f"agent_run.id={run.run_id},tenant=7"
    assert changed["OTEL_RESOURCE_ATTRIBUTES"] == f"service.name=x,agent_run.id={run.run_id},agent.label.team=a%20b"
    assert changed["OTEL_EXPORTER_OTLP_ENDPOINT"] == "https://host.example/base"
    assert changed["OTEL_EXPORTER_OTLP_HEADERS"] == "Authorization=Bearer abc%2Cd"
    assert changed["A"] == "1"
    assert _environment(Asked(["true"]), config, around) == around, "nothing is recorded, nothing is changed"
