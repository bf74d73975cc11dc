"""What forked and spawned children record, and what they leave alone."""

from __future__ import annotations

import os

import pytest
from on_disk import Process, eventually, journal_lines, rows_of, run_python
from record_cases import environment, state

from otel_agent_telemetry.recording.recorder import Recorder

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
