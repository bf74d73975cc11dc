"""`tail`: the end of the journal, and what is appended to it."""

from __future__ import annotations

import json
import signal
import threading
from datetime import UTC, datetime

import pytest
from command import agent_telemetry, record_runs, start_command
from stored import aged

from otel_agent_telemetry.cli.output import cells_of
from otel_agent_telemetry.cli.tail import follow_records
from otel_agent_telemetry.cli.tail_lines import line_of
from otel_agent_telemetry.errors import StorageError
from otel_agent_telemetry.journal import journal_path
from otel_agent_telemetry.wire import encode_line

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


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


STEP = {
    "record_type": "span",
    "event_id": "517a28ca-7700-88e5-a8bf-0c3406f25c72",
    "run_id": "20261128T115016Z-写代码-517a28ca",
    "name": "chat gpt-4o-mini",
    "status": "ok",
    "start_time": "2026-11-28T11:50:16+00:00",
    "end_time": "2026-11-28T11:50:18+00:00",
    "duration_ms": 2000,
    "attributes": {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.usage.input_tokens": 150_000,
        "gen_ai.usage.output_tokens": 123,
    },
}
STATE = {
    **aged(1, 1).to_fields(),
    **{name: STEP[name] for name in ("run_id", "event_id")},
    "record_type": "run",
    "updated_at": "2026-11-27T11:50:18+00:00",
    "model": "gpt-4o-mini",
    "input_tokens": 150_000,
    "output_tokens": 123,
    "cost_usd": 0.0612,
    "status": "failed",
    "error_summary": "the model is 过载 " * 30,
}


@pytest.mark.parametrize(
    "record", [STEP, STATE, {"record_type": "event", "payload": "🔥" * 200}, {"record_type": "new"}]
)
@pytest.mark.parametrize("width", [80, 140])
def test_a_record_is_one_line_of_the_terminal(record, width):
    """Whatever is in it, also what this version cannot read."""
    text, _ = line_of(record, width=width, utc=True, now=NOW)
    assert cells_of(text) <= width
    assert str(record["record_type"]) in text


def test_model_tokens_and_cost_stand_in_the_lines_that_have_them():
    """Of a run and of a model call; in a pipe ids are whole, and times have their day and zone."""
    text, style = line_of(STATE, width=140, utc=True, now=NOW)
    assert text.startswith("2026-11-27 11:50:18 run   517a28ca ")
    assert " · gpt-4o-mini · 150.0k in, 123 out · $0.061  the model is" in text
    assert style == "red"
    text, _ = line_of(STEP, width=80, utc=True, now=NOW)
    assert text == "11:50:18 span  517a28ca chat gpt-4o-mini  2.0 s · 150.0k in, 123 out · $0.023"
    assert line_of(STATE, width=80, utc=True, now=NOW)[0].startswith("27 Nov 11:50 run ")
    text, _ = line_of(STEP, width=None, utc=True, now=NOW)
    assert text.startswith(f"2026-11-28 11:50:18 UTC  span   {STEP['run_id']}  chat gpt-4o-mini  2.0 s")


class Restarting:
    """A service that is away at the second look, and back at the third; then the reader has seen enough."""

    poll_s = 0.0
    looks = 0

    def read_new(self):
        self.looks += 1
        if self.looks in (2, 3):
            raise StorageError("reading http://127.0.0.1:9: connection refused")
        if self.looks > 4:
            raise KeyboardInterrupt
        return iter([{"record_type": "event", "event_type": f"look {self.looks}"}])


def test_following_goes_on_when_a_service_restarts(capsys):
    """Its absence is named once, however long it is; what comes afterwards is printed."""
    with pytest.raises(KeyboardInterrupt):
        follow_records(Restarting(), as_json=True, utc=True)
    printed = capsys.readouterr()
    assert [json.loads(line)["event_type"] for line in printed.out.splitlines()] == ["look 1", "look 4"]
    assert len(printed.err.splitlines()) == 1
    assert "connection refused" in printed.err
