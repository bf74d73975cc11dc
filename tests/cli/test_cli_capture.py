"""`agent-telemetry capture` and `capture-query`; the seed's own examples are in `tests/capture`."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from cli.command import agent_telemetry, agent_telemetry_process

from otel_agent_telemetry.cli.capture_query import entry_columns
from otel_agent_telemetry.cli.error_handling import ExitCode
from otel_agent_telemetry.cli.fitted_table import print_fitted
from otel_agent_telemetry.cli.output import cells_of


def capture(config, *arguments):
    result = agent_telemetry(config, "capture", *arguments)
    assert result.code == 0, result.err
    return result


def test_the_entry_alone_can_be_piped(config):
    """`--json` prints what a program can read."""
    result = capture(config, "skill", "success", "1.5", "CLI", "--json")
    assert result.json["duration_ms"] == 1.5


def test_it_is_a_run_at_once(config):
    """`runs` shows it."""
    entry = capture(config, "skill", "failure", "5", "CLI", "{}", "why", "--json").json
    (run,) = agent_telemetry(config, "runs", "--json").json
    assert (run["run_id"], run["agent_name"], run["status"]) == (entry["run_id"], "skill", "failed")
    assert (run["trigger_type"], run["error_summary"]) == ("CLI", "why")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["s", "splendid", "1", "CLI"], "Error: Invalid status: splendid. Must be one of: success, failure"),
        (["s", "success", "1", "CLI", "[1]"], "Error: Invalid JSON for inputs: an object is expected"),
        (["s", "success", "1", "CLI", "{"], "Error: Invalid JSON for inputs: Expecting property name"),
        (["s", "success", "1", "CLI", "[" * 100_000], "Error: Invalid JSON for inputs"),
        (["s", "success", "soon", "CLI"], "duration_ms"),
        (["s", "success", "--", "-1", "CLI"], "greater than or equal to 0"),
        (["s", "success"], "Missing argument"),
    ],
)
def test_wrong_arguments_are_a_usage_error(config, arguments, message):
    """One line names the broken rule, and nothing is captured."""
    result = agent_telemetry(config, "capture", *arguments)
    assert result.code == ExitCode.USAGE
    assert message in result.err
    assert not config.capture_file.exists()


def test_a_wrong_input_is_not_quoted(config):
    """It may hold a secret."""
    result = agent_telemetry(config, "capture", "s", "success", "1", "CLI", '{"password": "hunter2"')
    assert "hunter2" not in result.err + result.out


def test_a_file_that_cannot_be_written_is_an_error(config, tmp_path):
    """The entry is printed, the run is kept, the exit status is 4."""
    result = agent_telemetry(config, "capture", "s", "success", "1", "CLI", "--file", tmp_path)
    assert result.code == ExitCode.STORE_UNAVAILABLE
    assert f"Error: not written to {tmp_path}" in result.err
    assert len(agent_telemetry(config, "runs", "--json").json) == 1


def test_recording_that_is_off_is_an_error(config):
    """Nothing was captured, and the error reports it."""
    result = agent_telemetry(config, "capture", "s", "success", "1", "CLI", env={"OTEL_SDK_DISABLED": "true"})
    assert result.code == ExitCode.PROBLEM
    assert "OTEL_SDK_DISABLED" in result.err


def test_query_by_all_that_can_be_asked(config):
    """Skill, status, caller and limit, newest first."""
    for number in range(4):
        capture(config, "even" if number % 2 == 0 else "odd", "success", str(number), "CLI")
    capture(config, "odd", "failure", "9", "API", "{}", "why not")

    def durations(*arguments):
        return [entry["duration_ms"] for entry in agent_telemetry(config, "capture-query", *arguments, "--json").json]

    assert durations() == [9, 3, 2, 1, 0]
    assert durations("--skill", "odd") == [9, 3, 1]
    assert durations("--status", "failure") == [9]
    assert durations("--caller", "CLI", "-n", "2") == [3, 2]
    assert durations("--skill", "odd", "--caller", "API", "--status", "success") == []


def test_query_as_a_table(config):
    """Headings, one line an entry, and nothing that could steer a terminal."""
    capture(config, "skill\x1b[31m", "failure", "9", "API", "{}", "line\nbreak " + "x" * 100)
    result = agent_telemetry(config, "capture-query")
    heading, line = result.out.splitlines()
    assert heading.split()[:4] == ["TIMESTAMP", "STATUS", "DURATION", "SKILL"]
    assert "\x1b" not in line
    assert "line\\nbreak" in line
    assert "9.0 ms" in line


@pytest.mark.parametrize("width", [80, 110, 140])
def test_query_on_a_terminal_is_one_line_an_entry(capsys, width):
    """Whatever other programs wrote, wide characters included; the id is what `show` finds the run by."""
    ours = {"timestamp": "2026-11-28T11:50:16+00:00", "status": "failure", "duration_ms": 9.25, "skill": "写代码" * 30}
    ours |= {"caller": "CLI", "error_message": "🔥" * 90, "run_id": "20261128T115016Z-writer-517a28ca"}
    theirs = {"timestamp": "x" * 200, "status": ["y" * 90], "duration_ms": float("nan"), "run_id": "z" * 90}
    columns = entry_columns([ours, theirs], is_wide=width >= 110, utc=True, now=datetime(2026, 11, 28, 12, tzinfo=UTC))
    print_fitted(columns, width=width, statuses=["failure", "-"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert max(map(cells_of, lines)) <= width
    assert lines[1].split()[-1] == "517a28ca"
    assert "9.2 ms" in lines[1]
    assert ("2026-11-28 11:50:16" if width >= 110 else "11:50") in lines[1]


def test_query_of_a_time(config, tmp_path):
    """Both ends included; what has no time that can be read is in no period; a limit is named where it left some out."""
    file = tmp_path / "any.json"
    times = ["2026-01-01T00:00:00Z", "2026-01-02T12:00:00+00:00", None, "soon", "2026-01-03T00:00:00Z"]
    file.write_text(json.dumps([{"timestamp": time, "skill": "s"} for time in times]))

    def found(*options):
        return [one["timestamp"] for one in agent_telemetry(config, *line, "--utc", "--json", *options).json]

    line = ("capture-query", "--file", file)
    assert found("--since", "2026-01-02", "--until", "2026-01-02") == [times[1]]
    assert found("--since", "2026-01-03T00:00:00") == [times[4]]
    assert found("--until", "2026-01-01T00:00:00Z") == [times[0]]
    assert "--limit" in agent_telemetry(config, *line, "-n", "4").err
    assert agent_telemetry(config, *line, "-n", "5").err == ""
    assert agent_telemetry(config, *line, "--since", "soonish").code == ExitCode.USAGE


def test_query_of_a_file_that_anyone_wrote(config, tmp_path):
    """Members of any type, and none at all."""
    file = tmp_path / "any.json"
    file.write_text(json.dumps([{}, {"skill": 5, "duration_ms": "long", "timestamp": None, "status": ["x"]}]))
    result = agent_telemetry(config, "capture-query", "--file", file)
    assert result.code == 0
    assert len(result.out.splitlines()) == 3


def test_query_without_a_file_and_without_a_match(config):
    """Each is reported; neither is an error."""
    result = agent_telemetry(config, "capture-query")
    assert (result.code, result.out) == (0, "")
    assert "No entries yet" in result.err
    capture(config, "skill", "success", "1", "CLI")
    assert agent_telemetry(config, "capture-query", "--skill", "other").out == "No entries match.\n"
    assert agent_telemetry(config, "capture-query", "--status", "splendid").code == ExitCode.USAGE


def test_as_a_process_of_its_own(config):
    """As a shell script runs it; where text cannot be shown, it is escaped, not refused."""
    result = agent_telemetry_process(config, "capture", "s", "success", "1", "CLI", env={"PYTHONIOENCODING": "ascii"})
    assert result.code == 0
    assert "Telemetry captured to" in result.out
    assert len(json.loads(config.capture_file.read_text("utf-8"))) == 1
