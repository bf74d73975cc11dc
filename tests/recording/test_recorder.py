from __future__ import annotations

import json
import os
import subprocess
import threading

import pytest
from on_disk import Process, buffer_lines, eventually, journal_lines, nobody_delivers, record, rows_of, run_python

from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.buffer.health import live_counters
from otel_agent_telemetry.buffer.layout import list_writers
from otel_agent_telemetry.buffer.writer import BufferWriter
from otel_agent_telemetry.recording.recorder import Recorder
from otel_agent_telemetry.testing import isolated_config


@pytest.fixture
def recorder(config):
    opened = Recorder(config)
    yield opened
    opened.close(5.0)


def state(number=1, status="success", updated=1):
    return record(number, status=status, updated=updated).to_fields()


def environment(config, **more):
    return {"TELEMETRY_BASE_DIR": str(config.base_dir), "TELEMETRY_EXIT_TIMEOUT_S": "60", **more}


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


# --- fork


FORK = """
import os, sys, threading
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
client.start_run("agent", "job", run_id="parent")
client.flush(10)
child = os.fork()
if child == 0:
    with client.track_run("agent", "job", run_id="child") as run:
        run.log_event("in child")
    {in_child}
    client.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
client.end_run("parent", {status!r})
client.end_run(client.start_run("agent", "job", run_id="parent-after"))
print(client.get_run_id_metrics()["run_id_metrics"]["total_runs"])
"""


def fork(config, *, in_child="pass", status="success"):
    return run_python(FORK.format(in_child=in_child, status=status), env=environment(config))


@pytest.mark.durability
def test_forked_child_writes_under_its_own_identity(config):
    """Its own writer, numbers from 1, its run in the database; the parent's go on without a gap."""
    total = fork(config)

    rows = rows_of(config)
    assert {name: row["status"] for name, row in rows.items()} == dict.fromkeys(
        ("parent", "child", "parent-after"), "success"
    )
    by_writer = {}
    for line in journal_lines(config):
        by_writer.setdefault(line["writer"], []).append((line["seq"], line["run_id"]))
    assert sorted({run_id for _, run_id in lines} for lines in by_writer.values()) == [
        {"child"},
        {"parent", "parent-after"},
    ] or sorted(sorted({run_id for _, run_id in lines}) for lines in by_writer.values()) == [
        ["child"],
        ["parent", "parent-after"],
    ]
    assert all([seq for seq, _ in lines] == list(range(1, len(lines) + 1)) for lines in by_writer.values())
    assert total.strip() == "2"  # the child's run is not in the parent's count
    assert rows["child"]["parent_run_id"] is None


@pytest.mark.durability
def test_run_of_the_parent_may_be_ended_by_the_child(config):
    """The child's end stands; ended once more by the parent, the later end stands."""
    fork(config, in_child='client.end_run("parent", "partial")', status="failed")

    assert rows_of(config)["parent"]["status"] == "failed"


@pytest.mark.durability
def test_child_that_exits_leaves_the_parents_runs_open(config):
    """The child's exit handlers end its own runs only; the parent's end is its own."""
    script = """
import os
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
client.start_run("agent", "job", run_id="parent")
child = os.fork()
if child == 0:
    client.start_run("agent", "job", run_id="child-open")
    raise SystemExit(0)
assert os.waitpid(child, 0)[1] == 0
client.flush(10)
from tests.on_disk import eventually, rows_of
def ended():  # what the child left is delivered by the next process that delivers
    rows = rows_of(client.config)
    return rows if rows.get("child-open", {"status": "running"})["status"] != "running" else None
rows = {name: row["status"] for name, row in eventually(ended).items()}
print(rows["parent"], rows["child-open"])
client.end_run("parent")
"""
    out = run_python(script, env=environment(config))

    assert out.split() == ["running", "failed"]
    assert rows_of(config)["parent"]["status"] == "success"


@pytest.mark.durability
def test_parents_lock_is_not_kept_alive_by_its_child(config):
    """The parent is killed while its forked child lives on: the parent's run is closed all the same."""
    script = """
import os, sys, time
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
client.start_run("agent", "job", run_id="parent")
child = os.fork()
if child == 0:
    sys.stdin.readline()
    os._exit(0)
print(child, flush=True)
sys.stdin.readline()
"""
    with Process(script, env=environment(config)) as parent:
        child = int(parent.line())
        os.kill(parent.pid, 9)
        parent.popen.wait()
        os.kill(child, 0)  # it lives
        recorder = Recorder(config)
        recorder.record_run(state(7))
        row = eventually(lambda: (found := rows_of(config).get("parent")) and found["status"] == "failed" and found)
        os.kill(child, 0)
        os.kill(child, 9)
        recorder.close(5.0)

    assert f"process {parent.pid}" in row["error_summary"]


@pytest.mark.durability
def test_fork_while_other_threads_record(config):
    """Children forked in the middle of busy threads neither hang nor mix their lines with ours."""
    script = """
import os, threading
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
stop = threading.Event()
def busy(name):
    number = 0
    while not stop.is_set():
        client.end_run(client.start_run("agent", "job", run_id=f"{name}-{number}"))
        number += 1
threads = [threading.Thread(target=busy, args=(name,), daemon=True) for name in "ab"]
for thread in threads:
    thread.start()
children = []
for number in range(5):
    child = os.fork()
    if child == 0:
        other = TelemetryClient()
        other.end_run(other.start_run("agent", "job", run_id=f"child-{number}"))
        other.close()
        os._exit(0)
    children.append(child)
stop.set()  # before the wait: threads that record without a pause leave the delivery of all no time
for child in children:
    assert os.waitpid(child, 0)[1] == 0
for thread in threads:
    thread.join()
assert client.flush(20)
"""
    run_python(script, env=environment(config), options=("-W", "ignore"))

    rows = eventually(lambda: (found := rows_of(config)) and all(f"child-{n}" in found for n in range(5)) and found)
    assert {row["status"] for row in rows.values()} == {"success"}
    seqs = {}
    for line in journal_lines(config):
        seqs.setdefault(line["writer"], []).append(line["seq"])
    assert all(sorted(numbers) == list(range(1, len(numbers) + 1)) for numbers in seqs.values())


@pytest.mark.durability
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_children_keep_their_runs(config, method):
    """Their exit runs no handlers; what returned is delivered by somebody, nothing is left running."""
    script = f"""
import multiprocessing
from otel_agent_telemetry import TelemetryClient
def work(number):
    client = TelemetryClient()
    with client.track_run("agent", "job", run_id=f"child-{{number}}") as run:
        run.log_event("e")
if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    client = TelemetryClient()
    with client.track_run("agent", "job", run_id="parent"):
        processes = [context.Process(target=work, args=(number,)) for number in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            assert process.exitcode == 0
    client.flush(10)
"""
    path = config.base_dir.parent / "work.py"
    path.write_text(script)
    run_python(
        "import runpy, sys\nsys.argv = [sys.argv[1]]\nrunpy.run_path(sys.argv[0], run_name='__main__')",
        path,
        env=environment(config),
    )

    wanted = ["child-0", "child-1", "child-2", "parent"]
    rows = eventually(lambda: (found := rows_of(config)) and sorted(found) == wanted and found)
    assert {row["status"] for row in rows.values()} == {"success"}


# --- exit


EXITS = {
    "end of the script": "",
    "sys.exit": "import sys\nsys.exit(3)",
    "uncaught exception": "raise ValueError('x')",
    "interrupt": "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nimport signal\nsignal.pause()",
}


@pytest.mark.parametrize("how", EXITS)
def test_runs_left_open_are_failed_at_exit(config, how):
    """Whatever way the interpreter ends: open runs say so, ended ones are as they were."""
    script = "from otel_agent_telemetry import TelemetryClient\nclient = TelemetryClient()\n"
    script += "client.start_run('agent', 'job', run_id='open')\n"
    script += "client.end_run(client.start_run('agent', 'job', run_id='ended'), 'partial')\n"
    with Process(script + EXITS[how], env=environment(config)) as process:
        process.end()

    rows = rows_of(config)
    assert rows["ended"]["status"] == "partial"
    assert (rows["open"]["status"], rows["open"]["error_summary"]) == (
        "failed", "the process exited while the run was still open",
    )  # fmt: skip


@pytest.mark.durability
def test_os_exit_leaves_everything_in_the_buffer(config):
    """No handler runs: the next process finds the runs, ended or not."""
    script = (
        "import os\nfrom otel_agent_telemetry import TelemetryClient\nclient = TelemetryClient()\n"
        "client.start_run('agent', 'job', run_id='open')\n"
        "client.end_run(client.start_run('agent', 'job', run_id='ended'))\nos._exit(0)\n"
    )
    run_python(script, env=environment(config))

    recorder = Recorder(config)
    recorder.record_run(state(1))
    rows = eventually(lambda: (found := rows_of(config)) and found.get("open", {}).get("status") == "failed" and found)
    recorder.close(5.0)
    assert rows["ended"]["status"] == "success"
    assert "is gone; the run never ended" in rows["open"]["error_summary"]


def test_records_made_by_other_exit_handlers_are_kept(config):
    """A handler that runs after ours, when threads may be refused: the run is in the buffer for the next."""
    script = """
import atexit
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
@atexit.register
def last():
    client.end_run(client.start_run("agent", "job", run_id="at-exit"))
    print("recorded", flush=True)
"""
    with Process(script, env=environment(config)) as process:
        status, out, err = process.end()
    assert (status, out.strip(), err) == (0, "recorded", "")

    recorder = Recorder(config)
    recorder.record_run(state(1))
    row = eventually(lambda: rows_of(config).get("at-exit"))
    recorder.close(5.0)
    assert row["status"] == "success"


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


def test_exit_of_a_script_delivers_its_one_run(config):
    """Without flush or close, the run is in the database when the process is gone; how fast, the bench says."""
    script = (
        "from otel_agent_telemetry import TelemetryClient\nclient = TelemetryClient()\n"
        "client.end_run(client.start_run('agent', 'job'))\n"
    )
    with Process(script, env=environment(config)) as process:
        assert process.end()[0] == 0

    assert len(rows_of(config)) == 1


def test_process_that_records_nothing_leaves_nothing(config):
    """Importing, making a client, flushing, closing: no folder, no thread (invariant 9)."""
    script = (
        "import threading\nfrom otel_agent_telemetry import TelemetryClient\nclient = TelemetryClient()\n"
        "assert client.flush(1)\nclient.get_stats()\nassert threading.active_count() == 1, threading.enumerate()\nclient.close()\n"
    )
    run_python(script, env=environment(config))

    assert not config.base_dir.exists()


# --- full disk


FULL = """
import json, resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
client.end_run(client.start_run("agent", "job", run_id="before"))
assert client.flush(10)
resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, resource.RLIM_INFINITY))
for number in range(60):
    with client.track_run("agent", "job", run_id=f"full-{number}", filling="x" * 400) as run:
        run.log_event("e", {"text": "y" * 400})
print(json.dumps(client._recorder.counters.as_dict()), flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
client.end_run(client.start_run("agent", "job", run_id="after"))
print(client.flush(15))
"""


@pytest.mark.durability
def test_files_that_cannot_grow_are_counted_and_never_raised(config):
    """At a size limit nothing raises; what was kept is whole, the rest is counted; afterwards all is well again."""
    counters, flushed = run_python(FULL, env=environment(config, TELEMETRY_SEGMENT_BYTES="100000000")).splitlines()

    told = json.loads(counters)
    assert told["journal_failed"] > 50
    assert told["lost"] > 0
    rows = eventually(lambda: (found := rows_of(config)) and "after" in found and found)
    assert rows["before"]["status"] == rows["after"]["status"] == "success"
    assert flushed == "False"  # it says that something could not be buffered
    assert any(line["run_id"] == "after" for line in journal_lines(config))


@pytest.mark.durability
def test_full_disk_is_counted_and_recovers(small_disk):
    """A file system of 64 KiB filled to the brim: calls return, counters tell, room brings recording back."""
    config = isolated_config(small_disk / "base", database_url=f"sqlite:///{small_disk.parent / 'db.sqlite'}")
    recorder = Recorder(config)
    with nobody_delivers(config):
        recorder.record_run(state(1))
        with (small_disk / "ballast").open("wb", buffering=0) as ballast, pytest.raises(OSError, match="space"):
            while ballast.write(b"x" * 1024):
                pass
        for number in range(2, 200):
            recorder.record_run({**state(number), "error_details": "y" * 500})
        assert recorder.counters.lost > 0
        assert recorder.counters.journal_failed > 0
        recorder.tick()  # the sign of life and the counters need no room
        assert live_counters(config.buffer_dir)[recorder.writer]["counters"]["lost"] == recorder.counters.lost

        (small_disk / "ballast").unlink()
        failed = recorder.counters.journal_failed
        recorder.record_run(state(500))
        assert recorder.counters.journal_failed == failed
        assert journal_lines(config)[-1]["run_id"] == "run-500"
    recorder.close(5.0)
    assert subprocess.run(["sync"], check=True).returncode == 0


@pytest.mark.durability
def test_locks_that_threads_take_while_we_fork_are_not_kept_by_the_children(tmp_path):
    """Threads take and give up locks without pause; children forked meanwhile keep none of them alive."""
    script = """
import os, sys, threading
from pathlib import Path
from otel_agent_telemetry.locks import FileLock
stop = threading.Event()
paths = [Path(sys.argv[1]) / f"{number}.lock" for number in range(4)]
def busy(path):
    while not stop.is_set():
        lock = FileLock(path)
        lock.try_acquire()
        lock.release()
threads = [threading.Thread(target=busy, args=(path,)) for path in paths]
for thread in threads:
    thread.start()
alive, told = os.pipe()
for _ in range(40):
    if os.fork() == 0:
        os.write(told, b"x")
        sys.stdin.read()
        os._exit(0)
stop.set()
for thread in threads:
    thread.join()
for _ in range(40):
    assert os.read(alive, 1)
print([FileLock(path).try_acquire() for path in paths], flush=True)
sys.stdin.read()
"""
    with Process(script, tmp_path) as process:
        assert process.line() == "[True, True, True, True]"


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
