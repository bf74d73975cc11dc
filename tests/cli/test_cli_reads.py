"""`runs`, `show` and `stats`: what was stored, readable by people and programs."""

from __future__ import annotations

import pytest
from command import OPEN_A_RUN, agent_telemetry, agent_telemetry_process, record_runs
from on_disk import Process, eventually, nobody_delivers
from opentelemetry import trace

from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.buffer.layout import undelivered


def test_runs_lists_newest_first_in_plain_columns(config):
    """Piped output has a heading and one line a run, without colour or frames."""
    record_runs(config)
    result = agent_telemetry(config, "runs")
    lines = result.out.splitlines()
    assert result.code == 0
    assert lines[0].split("  ")[0] == "STARTED"
    assert [line.split()[-1] for line in lines[1:]] == ["run-2", "run-1", "run-0"]
    assert "\x1b" not in result.out


def test_runs_json_is_one_array_of_whole_runs(config):
    """Every run is an object with every column, JSON columns as objects."""
    client = TelemetryClient(config)
    client.end_run(client.start_run("agent", "job", run_id="one", flavour="mint"), metrics_json={"a": 1})
    assert client.flush()
    (run,) = agent_telemetry(config, "runs", "--json").json
    assert run["run_id"] == "one"
    assert run["context_json"] == {"flavour": "mint"}
    assert run["metrics_json"] == {"a": 1}
    assert run["api_posted"] is False
    assert run["end_time"].endswith("+00:00")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--agent", "agent-1"], ["run-1"]),
        (["--status", "FAILURE"], ["run-1"]),
        (["--status", "completed"], ["run-2", "run-0"]),
        (["--run-id", "run-0"], ["run-0"]),
        (["--job-type", "other"], []),
        (["--parent", "nobody"], []),
        (["--since", "1h"], ["run-2", "run-1", "run-0"]),
        (["--until", "1h"], []),
        (["--since", "2000-01-01", "--limit", "1"], ["run-2"]),
    ],
)
def test_runs_filters(config, options, expected):
    """Each filter leaves the runs that it names; statuses in any accepted spelling."""
    record_runs(config)
    assert [run["run_id"] for run in agent_telemetry(config, "runs", "--json", *options).json] == expected


@pytest.mark.parametrize("options", [["--status", "odd"], ["--since", "soon"], ["--limit", "0"], ["--limit", "x"]])
def test_runs_refuses_what_it_cannot_use(config, options):
    """A filter that means nothing is a usage error, not an empty answer."""
    result = agent_telemetry(config, "runs", *options)
    assert result.code == 2
    assert result.out == ""


@pytest.mark.parametrize("command", [["runs"], ["stats"], ["runs", "--json"], ["stats", "--json"]])
def test_reads_of_an_empty_base_folder_make_nothing(config, command):
    """Reading nothing succeeds with a note on stderr and creates neither folder nor file."""
    result = agent_telemetry(config, *command)
    assert result.code == 0
    assert "No runs yet" in result.err
    assert not config.base_dir.exists()


def test_a_run_whose_process_was_killed_shows_as_failed(config):
    """The first sync of a read delivers and closes what a dead process left."""
    with Process(OPEN_A_RUN, config.base_dir, "doomed") as process:
        assert process.line() == "doomed"
        process.kill()
    (run,) = agent_telemetry(config, "runs", "--json").json
    assert (run["run_id"], run["status"]) == ("doomed", "failed")
    assert str(process.pid) in run["error_summary"]


def test_no_sync_leaves_the_buffer_alone(config):
    """With --no-sync nothing is delivered, so a waiting run is not shown yet."""
    with nobody_delivers(config), Process(OPEN_A_RUN, config.base_dir, "waits") as process:
        process.line()
        process.kill()
    waiting = undelivered(config.buffer_dir)
    assert waiting
    assert agent_telemetry(config, "runs", "--json", "--no-sync").json == []
    assert undelivered(config.buffer_dir) == waiting
    assert [run["run_id"] for run in agent_telemetry(config, "runs", "--json").json] == ["waits"]


def test_runs_says_how_many_there_are_and_how_to_list_the_next(config):
    """The time that it names is that of the last run which is listed."""
    record_runs(config)
    result = agent_telemetry(config, "runs", "--limit", 2, "--utc")
    note = result.err.strip()
    assert note.startswith("2 of 3 runs; --limit N lists more, --until ")
    until = note.split("--until ")[1].split()[0]
    rest = agent_telemetry(config, "runs", "--until", until, "--json").json
    assert [run["run_id"] for run in rest] == ["run-1", "run-0"]
    assert agent_telemetry(config, "runs", "--limit", 3).err == ""


def test_runs_json_is_ascii_whatever_the_names_are(config):
    """Written run by run, with the same escapes as everywhere."""
    client = TelemetryClient(config)
    client.end_run(client.start_run("agént \u202e", "job", run_id="one"))
    assert client.flush()
    result = agent_telemetry(config, "runs", "--json")
    assert result.out.isascii()
    assert result.json[0]["agent_name"] == "agént \u202e"
    assert agent_telemetry(config, "runs", "--json", "--agent", "nobody").json == []


def test_trees_are_drawn_in_ascii_where_the_terminal_has_no_utf_8(config):
    """No escape sequences in their place."""
    client = TelemetryClient(config)
    with client.track_run("agent", "job", run_id="one") as run:
        run.log_event("began", {"n": 1})
    assert client.flush()
    shown = agent_telemetry_process(config, "show", "one", env={"PYTHONIOENCODING": "ascii:backslashreplace"}).out
    assert "`- " in shown
    assert "\\u" not in shown


def test_show_finds_by_run_id_event_id_and_beginning(config):
    """All of them lead to the same run."""
    record_runs(config, 1)
    run = agent_telemetry(config, "show", "run-0", "--json").json["run"]
    for wanted in (run["event_id"], run["event_id"][:9], "run-"):
        assert agent_telemetry(config, "show", wanted, "--json").json["run"]["event_id"] == run["event_id"]


def test_show_refuses_a_beginning_of_several_ids(config):
    """It names the candidates and shows none."""
    record_runs(config)
    result = agent_telemetry(config, "show", "run")
    assert result.code == 2
    assert result.out == ""
    assert all(f"run-{number}" in result.err for number in range(3))


@pytest.mark.parametrize("wanted", ["nobody", "", "%", "'; --"])
def test_show_of_an_unknown_run_is_not_found(config, wanted):
    """Nothing of that name: status 3, one line, no output."""
    record_runs(config, 1)
    result = agent_telemetry(config, "show", wanted)
    assert (result.code, result.out) == (3, "")
    assert "no run" in result.err


def test_show_nests_events_steps_and_child_runs(config, case):
    """Events and steps appear under their parents, ordered by time, and child runs where they began."""
    client = case.client()
    tracer = case.tracer()
    with client.track_run("parent", "job", run_id="above") as run:
        run.log_event("began", {"n": 1})
        with tracer.start_as_current_span("outer") as outer:
            outer.add_event("inside", {"n": 2})
            with tracer.start_as_current_span("inner"):
                pass
        with client.track_run("child", "job", run_id="below"):
            pass
    client.log_event("above", "afterwards")
    assert client.flush()
    result = agent_telemetry(config, "show", "above")
    rows = [line for line in result.out.splitlines() if line.startswith(("├", "│", "└"))]
    at = {name: next(i for i, row in enumerate(rows) if name in row) for name in
          ("began", "outer", "inside", "inner", "below", "afterwards")}  # fmt: skip
    assert at["began"] < at["outer"] < at["inside"] < at["inner"] < at["below"] < at["afterwards"]
    indent = {name: len(rows[row]) - len(rows[row].lstrip("│├└─ ")) for name, row in at.items()}
    assert indent["began"] == indent["outer"] == indent["below"] == indent["afterwards"]
    assert indent["inner"] == indent["inside"] > indent["outer"]
    assert trace.get_current_span() is trace.INVALID_SPAN
    tree = agent_telemetry(config, "show", "above", "--json").json
    assert [child["run_id"] for child in tree["children"]] == ["below"]
    assert [step["name"] for step in tree["steps"]] == ["outer", "inner"]
    assert [event["event_type"] for event in tree["events"]] == ["began", "inside", "afterwards"]


def test_show_names_what_was_left_out_and_the_settings_that_keep_it(config, case):
    """A run of which nothing was left out says nothing of it."""
    tracer = case.tracer()
    for name, attributes in (("told", {"ai.prompt": "hello"}), ("quiet", {"tenant": "acme"})):
        with tracer.start_as_current_span("root", attributes={"agent.run.id": name, **attributes}):
            tracer.start_span("step", attributes={**attributes, "tool.args": 1}).end()
    assert case.client().flush()
    shown = agent_telemetry(config, "show", "told").out
    assert "Left out as message content: ai.prompt (2)." in shown
    assert "TELEMETRY_CAPTURE_CONTENT=true" in shown
    assert "TELEMETRY_CONTENT_ALLOW" in shown
    assert "TELEMETRY_" not in agent_telemetry(config, "show", "quiet").out


def test_show_knows_a_run_that_only_the_journal_has(config):
    """A run that never reached the database is shown from the journal, with a note."""
    record_runs(config, 1)
    config.db_path.unlink()
    result = agent_telemetry(config, "show", "run-0", "--json", "--no-sync")
    assert result.code == 0
    assert result.json["run"]["status"] == "success"
    assert "journal" in result.err


def test_show_limits_what_it_lists_and_counts_the_rest(config):
    """Beyond --limit events are counted, not shown."""
    client = TelemetryClient(config)
    run_id = client.start_run("agent", "job", run_id="chatty")
    for number in range(9):
        client.log_event(run_id, "tick", {"n": number})
    client.end_run(run_id)
    assert client.flush()
    tree = agent_telemetry(config, "show", "chatty", "--limit", 4, "--json").json
    assert [event["payload"]["n"] for event in tree["events"]] == [0, 1, 2, 3]
    assert tree["left_out"] == 5
    assert "5 more" in agent_telemetry(config, "show", "chatty", "--limit", 4).out


def test_stats_counts_by_status_and_agent(config):
    """Totals equal what was recorded."""
    record_runs(config)
    stats = agent_telemetry(config, "stats", "--json").json
    assert stats["total_runs"] == stats["recent_24h"] == 3
    assert stats["agents"] == {"agent-0": 2, "agent-1": 1}
    assert stats["statuses"] == {"failed": 1, "success": 2}
    assert "agent-0  2" in agent_telemetry(config, "stats").out


def test_reads_of_a_configured_service_that_is_away_are_one_clear_line(config):
    """Runs of the local database are not shown in its place; credentials are not printed."""
    record_runs(config, 1)
    for arguments in (["runs"], ["show", "run-0"]):
        result = agent_telemetry(config, *arguments, env={"TELEMETRY_API_URL": "http://who:secret@127.0.0.1:9"})
        assert (result.code, result.out) == (4, "")
        assert len(result.err.splitlines()) == 1
        assert "reading http://127.0.0.1:9" in result.err
        assert "secret" not in result.err


def test_a_database_that_a_dying_process_left_in_mid_commit_can_be_read(config):
    """A hot journal is rolled back by whoever reads next, with --no-sync too."""
    record_runs(config, 1)
    code = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size=1")
connection.execute("PRAGMA cache_spill=1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE agent_runs SET run_id = 'torn'")
connection.execute("CREATE TABLE filler AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 5000) "
                   "SELECT i, hex(randomblob(100)) AS junk FROM n")
print("spilled", flush=True)
sys.stdin.readline()
"""
    with Process(code, config.db_path) as process:
        assert process.line() == "spilled"
        process.kill()
    assert eventually(lambda: config.db_path.with_name(config.db_path.name + "-journal").exists())
    (run,) = agent_telemetry(config, "runs", "--json", "--no-sync").json
    assert run["run_id"] == "run-0"
