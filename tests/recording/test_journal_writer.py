"""Lines of a process that records no runs of its own: numbered, durable, and never in the way."""

from __future__ import annotations

import threading

from otel_agent_telemetry.journal import journal_files, read_journal
from otel_agent_telemetry.recording.journal_writer import JournalWriter
from otel_agent_telemetry.testing import ManualClock, isolated_config

RUN = {"event_id": "e1", "run_id": "r1", "status": "failed"}


def lines_of(config):
    return [
        record for path in journal_files(config.ndjson_dir) for line in read_journal(path) for record in line.records
    ]


def test_runs_and_events_are_numbered_within_one_writer(tmp_path):
    """Both kinds of line share a writer id, and their numbers count from 1."""
    config = isolated_config(tmp_path)
    writer = JournalWriter(config, clock=ManualClock())
    assert writer.write_run(RUN)
    assert writer.write_event({"event_id": "e1", "run_id": "r1", "event_type": "note", "timestamp": "t"})
    run, event = lines_of(config)
    assert (run["record_type"], run["seq"], run["status"]) == ("run", 1, "failed")
    assert (event["record_type"], event["seq"], event["event_type"]) == ("event", 2, "note")
    assert run["writer"] == event["writer"]


def test_two_writers_of_one_process_have_two_identities(tmp_path):
    """Their numbers do not collide, so `verify` finds no gap and no repetition."""
    config = isolated_config(tmp_path)
    for _ in range(2):
        JournalWriter(config).write_run(RUN)
    assert len({(line["writer"], line["seq"]) for line in lines_of(config)}) == 2


def test_threads_share_one_sequence(tmp_path):
    """Every number is used once, and lines stand in the order of their numbers."""
    config = isolated_config(tmp_path)
    writer = JournalWriter(config)
    threads = [threading.Thread(target=lambda: [writer.write_run(RUN) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [line["seq"] for line in lines_of(config)] == list(range(1, 201))


def test_nothing_is_made_before_the_first_line(tmp_path):
    """Neither folder nor file."""
    config = isolated_config(tmp_path)
    JournalWriter(config).sync()
    assert not config.ndjson_dir.exists()


def test_a_write_that_fails_is_counted_and_not_raised(tmp_path):
    """The folder's place is taken by a file: False, and one counted problem."""
    config = isolated_config(tmp_path)
    config.ndjson_dir.parent.mkdir(parents=True, exist_ok=True)
    config.ndjson_dir.write_text("in the way")
    writer = JournalWriter(config)
    assert writer.write_run(RUN) is False
    assert "journal write" in str(writer.counters.as_dict())
