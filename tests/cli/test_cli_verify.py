"""`verify`: contents are compared, and what is wrong is named."""

from __future__ import annotations

import pytest
from command import agent_telemetry, record_runs
from test_cli_repair import edit, execute, journal_of

from otel_agent_telemetry import TelemetryClient


@pytest.mark.parametrize(
    ("change", "columns"),
    [
        ("status = 'failed'", ["status"]),
        ("agent_name = 'somebody else', items_failed = 3", ["agent_name", "items_failed"]),
        ("context_json = '{\"forged\":true}'", ["context_json"]),
    ],
)
def test_a_row_that_was_changed_by_hand_is_found(config, change, columns):
    """The run and the columns are named; a changed time of the last state makes it older or later instead."""
    record_runs(config)
    execute(config, f"UPDATE agent_runs SET {change} WHERE run_id = 'run-2'")
    result = agent_telemetry(config, "verify", "--json")
    assert result.code == 1
    assert result.json["altered"]["count"] == 1
    assert list(result.json["columns"].values()) == [columns]
    assert (
        f"run-2  {result.json['altered']['runs'][0]['event_id']}  {', '.join(columns)}"
        in agent_telemetry(config, "verify").out
    )


def test_other_spellings_of_the_same_content_are_no_finding(config):
    """JSON that went through a service, NULL for an empty text, 0 for none."""
    client = TelemetryClient(config)
    run_id = client.start_run("agent", "job", run_id="spelt", context_json='{"a": 1, "b": [2.0]}')
    client.end_run(run_id, output_summary="")
    assert client.flush()
    client.close()
    execute(config, 'UPDATE agent_runs SET context_json = \'{"b":[2.0],"a":1}\'')
    result = agent_telemetry(config, "verify", "--json")
    assert (result.code, result.json["altered"]["count"]) == (0, 0)


def test_a_row_of_every_kind_of_state_equals_its_journal(config):
    """What clients write compares equal, whatever the columns: unusual text, commits, postings, totals."""
    client = TelemetryClient(config)
    with client.track_run("agent", "job", run_id="full", git_repo="https://github.com/o/r") as run:
        run.set_metrics(items_discovered=3, metrics_json={"gen_ai": {"input_tokens": 5}}, note="naïve\x00 \u2028 text")
        run.log_event("tick", {})
    assert client.flush()
    client.associate_commit("full", "abcdef1", "llm")
    client.close()
    agent_telemetry(config, "sync")
    result = agent_telemetry(config, "verify", "--json")
    assert result.json["stored"] == 1
    assert result.code == 0, result.json


def test_two_runs_under_one_event_id_are_found(config):
    """In the journal one of them overwrote the other's row."""
    record_runs(config, 2)
    ids = [run["event_id"].encode() for run in agent_telemetry(config, "runs", "--json").json]
    edit(journal_of(config), lambda lines: [line.replace(*ids) for line in lines])
    result = agent_telemetry(config, "verify", "--json")
    assert result.code == 1
    assert result.json["twice"]["count"] == 1


def test_lines_that_an_ended_writer_wrote_last_are_missed(config):
    """Its highest number outlives it."""
    record_runs(config)
    agent_telemetry(config, "sync")
    edit(journal_of(config), lambda lines: lines[:-2])
    result = agent_telemetry(config, "verify", "--json")
    assert result.code == 1
    assert [(gap["first"], gap["last"]) for gap in result.json["gaps"]] == [(8, 9)]


def test_an_inserted_line_is_named(config):
    """A line that was copied or forged has a number that another line has."""
    record_runs(config, 1)
    edit(journal_of(config), lambda lines: [*lines, lines[1].replace(b'"n":0', b'"n":7')])
    result = agent_telemetry(config, "verify", "--json")
    assert result.code == 1
    assert result.json["repeated_lines"] == 1
    assert [line["line"] for line in result.json["odd_lines"]] == [2, 4]
    assert "line 4: number 2 of writer" in agent_telemetry(config, "verify").out


def test_a_torn_line_is_named_with_file_and_number(config):
    """In the middle of a day."""
    record_runs(config)
    path = journal_of(config)
    edit(path, lambda lines: [*lines[:3], lines[3][: len(lines[3]) // 2] + b"\n", *lines[4:]])
    result = agent_telemetry(config, "verify", "--json")
    assert result.json["odd_lines"] == [{"file": path.name, "line": 4, "reason": "torn"}]
