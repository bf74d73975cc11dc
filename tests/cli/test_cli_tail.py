"""`tail`: the end of the journal, and what is appended to it."""

from __future__ import annotations

import signal
import threading

import pytest
from command import agent_telemetry, record_runs, start_command

from otel_agent_telemetry.journal import journal_path
from otel_agent_telemetry.wire import encode_line


def event(number, **more):
    members = {"run_id": "run-1", "event_type": "tick", "timestamp": "2026-01-01T00:00:00", "payload": {"n": number}}
    return encode_line("event", {**members, **more})


def append(path, raw):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(raw)


@pytest.fixture
def following(config):
    """Start `tail -f`, and end it whatever happens."""
    started = []

    def start(*options):
        process = start_command(config, "tail", "-f", *options)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def next_line(process):
    """The next line that it prints, or None after twenty seconds."""
    timer = threading.Timer(20, process.kill)
    timer.start()
    line = process.stdout.readline()
    timer.cancel()
    return line.rstrip("\n")


def test_tail_prints_the_last_records_one_line_each(config):
    """As many as asked for, oldest first, each naming its run and what it is."""
    record_runs(config)
    lines = agent_telemetry(config, "tail", "-n", "4").out.splitlines()
    assert len(lines) == 4
    assert "run-1" in lines[0]
    assert lines[0].split("  ")[1].strip() == "run"
    assert "failed" in lines[0]
    assert 'checkpoint  {"n": 2}' in lines[2]
    assert lines[3].endswith("success  0 ms") or "success" in lines[3]


def test_tail_reaches_back_over_days(config):
    """When the newest file has too few lines the one before fills up."""
    append(journal_path(config.ndjson_dir, "20260101"), event(1) + event(2))
    append(journal_path(config.ndjson_dir, "20260102"), event(3))
    out = agent_telemetry(config, "tail", "-n", "2", "--json").out
    assert [line.count('"n": 2') for line in out.splitlines()] == [1, 0]


def test_tail_of_one_run_leaves_out_the_others(config):
    """--run takes a run id, an event id or the beginning of one."""
    record_runs(config)
    out = agent_telemetry(config, "tail", "--run", "run-1", "-n", "100").out
    assert len(out.splitlines()) == 3
    assert "run-0" not in out


def test_tail_without_a_journal_prints_a_note(config):
    """A missing journal is not an error."""
    result = agent_telemetry(config, "tail")
    assert (result.code, result.out) == (0, "")
    assert "no journal" in result.err


def test_follow_prints_lines_as_they_come_and_ends_well_with_ctrl_c(config, following):
    """What is appended appears; a line is printed once it is complete; SIGINT is status 0."""
    path = journal_path(config.ndjson_dir, "20260101")
    append(path, event(1))
    process = following()
    assert '{"n": 1}' in next_line(process)
    append(path, event(2))
    assert '{"n": 2}' in next_line(process)
    whole = event(3)
    append(path, whole[:20])
    append(path, whole[20:])
    assert '{"n": 3}' in next_line(process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")


def test_follow_waits_for_a_journal_that_does_not_exist_yet(config, following):
    """The folder, the first file and the next day's file may appear later."""
    process = following()
    append(journal_path(config.ndjson_dir, "20260101"), event(1))
    assert '{"n": 1}' in next_line(process)
    append(journal_path(config.ndjson_dir, "20260102"), event(2))
    assert '{"n": 2}' in next_line(process)
    append(journal_path(config.ndjson_dir, "20260101"), event(3))
    assert '{"n": 3}' in next_line(process)


def test_follow_goes_on_with_a_file_that_was_replaced(config, following):
    """A shorter file in the old one's place is read from its beginning."""
    path = journal_path(config.ndjson_dir, "20260101")
    append(path, event(1) * 3)
    process = following("-n", "1")
    assert '{"n": 1}' in next_line(process)
    scratch = path.with_suffix(".new")
    scratch.write_bytes(event(2))
    scratch.replace(path)
    assert '{"n": 2}' in next_line(process)


def test_follow_survives_lines_that_are_not_ours(config, following):
    """A torn line is passed over, and what follows it is printed."""
    path = journal_path(config.ndjson_dir, "20260101")
    append(path, b"rubbish\n\xff\xfe\n" + event(1)[:30] + event(2))
    process = following()
    assert '{"n": 2}' in next_line(process)
    append(path, b"\n[]\n" + event(3))
    assert '{"n": 3}' in next_line(process)
