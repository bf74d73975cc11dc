"""Where records go: buffer, journal, one recorder for each configuration."""

from __future__ import annotations

import os
import threading

from on_disk import buffer_lines, eventually, journal_lines, nobody_delivers, rows_of
from record_cases import state

from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.buffer.health import live_counters
from otel_agent_telemetry.buffer.layout import list_writers
from otel_agent_telemetry.buffer.writer import BufferWriter
from otel_agent_telemetry.recording.recorder import Recorder
from otel_agent_telemetry.testing import isolated_config


def test_run_states_go_to_buffer_and_journal(recorder, config):
    """One line each, the same bytes, with writer and number; events and steps to the journal only."""
    with nobody_delivers(config):
        recorder.record_run(state())
        recorder.record_event({"run_id": "run-1", "event_type": "e"})
        recorder.record_span({"run_id": "run-1", "name": "s"})

        journalled, buffered = journal_lines(config), buffer_lines(config)

    assert [(line["record_type"], line["seq"]) for line in journalled] == [("run", 1), ("event", 2), ("span", 3)]
    assert [line for line in buffered if line["record_type"] != "segment"] == journalled[:1]
    assert {line["writer"] for line in journalled} == {recorder.writer}


def test_numbers_have_no_gaps_under_threads(recorder, config):
    """Eight threads, a hundred records each: 1..800, each once (invariant 7)."""
    threads = [
        threading.Thread(target=lambda: [recorder.record_event({"run_id": "r", "event_type": "e"}) for _ in range(100)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(line["seq"] for line in journal_lines(config)) == list(range(1, 801))
    assert len({line["writer"] for line in journal_lines(config)}) == 1


def test_one_recorder_for_each_configuration(tmp_path):
    """Equal configurations share; others do not; threads that ask at once get the same."""
    config = isolated_config(tmp_path / "a")
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(Recorder.shared(isolated_config(tmp_path / "a"))))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {id(each) for each in found} == {id(Recorder.shared(config))}
    assert Recorder.shared(isolated_config(tmp_path / "b")) is not found[0]


def test_record_after_close_is_kept_under_a_new_identity(recorder, config):
    """Both records reach the database; each writer's numbers begin at 1."""
    recorder.record_run(state(1))
    recorder.close(5.0)
    recorder.record_run(state(2))
    assert recorder.flush(10)

    assert sorted(rows_of(config)) == ["run-1", "run-2"]
    assert [line["seq"] for line in journal_lines(config)] == [1, 1]
    assert len({line["writer"] for line in journal_lines(config)}) == 2


def test_counters_are_visible_in_the_lock_file(recorder, config):
    """`doctor` of another process sees what this one has written, about once a second."""
    recorder.record_run(state())
    recorder.record_event({"run_id": "r", "event_type": "e"})

    recorder.tick()

    (note,) = live_counters(config.buffer_dir).values()
    assert (note["pid"], note["writer"]) == (os.getpid(), recorder.writer)
    assert note["counters"]["run_states"] == 1
    assert note["counters"]["events"] == 1
    assert note["counters"]["last_seq"] == 2


def test_lost_buffer_is_opened_anew_by_house_keeping(recorder, config):
    """Lock file removed: a new identity and segment; both states are in the database in the end."""
    recorder.record_run(state(1))
    first = recorder.writer
    eventually(lambda: list_writers(config.buffer_dir))
    (config.buffer_dir / f"{first}.lock").unlink()

    recorder.tick()
    recorder.record_run(state(2))

    assert recorder.writer != first
    eventually(lambda: sorted(rows_of(config)) == ["run-1", "run-2"])


def test_fsync_always_syncs_before_returning(tmp_path, monkeypatch):
    """`TELEMETRY_FSYNC=always`: both files are forced to the disk with each record; `off` never does."""
    from otel_agent_telemetry import append

    synced = []
    real = append._datasync
    monkeypatch.setattr(append, "_datasync", lambda fd: (synced.append(fd), real(fd)))
    for fsync, expected in (("always", 2), ("off", 0)):
        recorder = Recorder(isolated_config(tmp_path / fsync, fsync=fsync))
        with nobody_delivers(recorder.config):
            synced.clear()
            recorder.record_run(state())
            assert len(synced) == expected
            recorder.tick()
            assert len(synced) == expected
        recorder.close(5.0)


def test_git_repository_is_read_in_the_background(tmp_path, monkeypatch):
    """The branch and remote of the working directory are in later states."""
    repository = tmp_path / "repo"
    (repository / ".git").mkdir(parents=True)
    (repository / ".git/HEAD").write_text("ref: refs/heads/feature\n")
    (repository / ".git/config").write_text('[remote "origin"]\n\turl = https://user:pw@github.com/o/r.git\n')
    monkeypatch.chdir(repository)
    recorder = Recorder(isolated_config(tmp_path / "base"))

    recorder.detect_environment()

    assert recorder.resource_defaults.columns["git_branch"] == "feature"
    assert "pw" not in recorder.resource_defaults.columns["git_repo"]


def test_refused_threads_lose_nothing(recorder, config, monkeypatch, caplog):
    """`can't start new thread`: counted, logged, the records stay in the buffer for the next deliverer."""

    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    recorder.record_run(state(1))
    recorder.close(0.1)
    monkeypatch.undo()

    assert "starting the background" in recorder.counters.last_error
    assert len(buffer_lines(config, "run")) == 1
    recorder.record_run(state(2))
    eventually(lambda: sorted(rows_of(config)) == ["run-1", "run-2"])


def test_close_with_a_run_open_does_not_close_the_run(config):
    """`client.close()` in mid-run delivers what there is; the run stays running until it ends."""
    client = TelemetryClient(config)
    open_id, ended_id = client.start_run("agent", "job"), client.start_run("agent", "job")
    client.end_run(ended_id)
    client.close()
    assert {run_id: row["status"] for run_id, row in rows_of(config).items()} == {
        open_id: "running",
        ended_id: "success",
    }

    client.end_run(open_id)
    client.close()
    assert rows_of(config)[open_id]["status"] == "success"
    assert not list(config.buffer_dir.glob("*.jsonl"))


def test_a_writer_that_changes_under_a_write_gives_no_number_twice(config):
    """The buffer is taken away again and again while threads write: every (writer, seq) is unique."""
    recorder = Recorder(config)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            recorder.record_event({"event_id": "e", "run_id": "r", "event_type": "t", "timestamp": "x"})

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    while recorder.counters.events < 5_000:
        recorder._identity = None
    stop.set()
    for thread in threads:
        thread.join()
    recorder.close()
    lines = [(line["writer"], line["seq"]) for line in journal_lines(config)]
    assert len(lines) == len(set(lines)) >= 5_000


def test_a_line_that_is_written_while_another_thread_closes_is_written_again(config, monkeypatch):
    """The segment that it went to is given up for delivery then, and may be gone before the line is in it."""
    recorder = Recorder(config)
    recorder.record_run(state(1))
    closed, append = recorder.buffer, BufferWriter.append

    def append_and_close(self, line):
        append(self, line)
        if self is closed and recorder.buffer is closed:
            recorder._leave_files()

    monkeypatch.setattr(BufferWriter, "append", append_and_close)
    recorder.record_run(state(2))

    assert recorder.buffer is not closed
    (written,) = [path.read_text() for path in config.buffer_dir.glob(f"{recorder.writer}-*.jsonl")]
    assert '"run_id":"run-2"' in written
    recorder.close(5.0)
