"""One deliverer of a host: who it is, taking over, stopping; with real processes."""

from __future__ import annotations

import os
import threading
import time

import pytest
from on_disk import PATIENCE_S, Process, buffer_lines, eventually, nobody_delivers, rows_of

from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.buffer.layout import drain_lock_path, list_writers
from otel_agent_telemetry.locks import FileLock
from otel_agent_telemetry.recording.recorder import Recorder
from otel_agent_telemetry.testing import isolated_config
from tests.delivery.service import Fault

WORK = """
import sys
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
name, runs = sys.argv[1], int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for number in range(runs):
    client.end_run(client.start_run("agent", "job", run_id=f"{name}-{number}"))
print("done", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def config(service, tmp_path):
    return isolated_config(tmp_path / "base", api_url=service.url, api_timeout_s=5.0, exit_timeout_s=5.0)


@pytest.fixture
def process(config, service):
    """Starts processes that record runs when told, and live until told to end."""
    started = []
    env = {"TELEMETRY_BASE_DIR": str(config.base_dir), "TELEMETRY_API_URL": service.url}

    def start(name, runs, *, code=WORK):
        started.append(Process(code, name, runs, env=env))
        assert started[-1].line() == "ready"
        return started[-1]

    yield start
    for running in started:
        with running:
            pass


def delivering(config):
    """Whether anybody holds the drain lock."""
    probe = FileLock(drain_lock_path(config.buffer_dir))
    free = probe.try_acquire()
    probe.release()
    return not free


@pytest.mark.durability
def test_two_deliverers_are_never_at_work_at_once(config, service, process):
    """Five processes record at once: the service never sees two batches at the same time, and gets every run once."""
    inside, most, guard = [0], [0], threading.Lock()
    keep = service.keep

    def watched(items):
        with guard:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        try:
            threading.Event().wait(0.02)  # longer than a batch takes, so that a second one would meet it
            return keep(items)
        finally:
            with guard:
                inside[0] -= 1

    service.keep = watched
    processes = [process(name, 40) for name in "abcde"]
    for running in processes:
        running.tell()
    for running in processes:
        assert running.line() == "done"
        running.tell()
        assert running.end()[0] == 0

    eventually(
        lambda: (
            {run.run_id: run.status for run in service.rows}
            == {f"{n}-{i}": "success" for n in "abcde" for i in range(40)}
        )
    )
    assert most[0] == 1


@pytest.mark.durability
def test_another_process_takes_over_when_the_deliverer_is_killed(config, service, process):
    """SIGKILL of the holder: the lock is free at once, the survivor delivers its own runs and the victim's."""
    victim = process("victim", 1)
    victim.tell()
    assert victim.line() == "done"
    eventually(lambda: "victim-0" in service.runs)
    assert delivering(config)

    with nobody_delivers_after(victim, config):
        client = TelemetryClient(config)
        client.end_run(client.start_run("agent", "job", run_id="survivor"))

    assert client.flush(15)
    assert service.runs["survivor"].status == "success"
    assert service.runs["victim-0"].status == "success"
    eventually(lambda: len(list_writers(config.buffer_dir)) == 1)  # the victim's files are gone


class nobody_delivers_after:  # noqa: N801 - reads as a statement
    """Kill a process when the block begins."""

    def __init__(self, victim, config):
        self.victim = victim
        self.config = config

    def __enter__(self):
        self.victim.kill()

    def __exit__(self, *exc):
        """Nothing to undo."""


@pytest.mark.durability
def test_runs_of_a_killed_process_are_closed_by_the_next(config, service, process):
    """Invariant 6, from the outside: failed, with the process named."""
    code = WORK.replace('print("done"', 'client.start_run("agent", "job", run_id=f"{name}-open")\nprint("done"')
    victim = process("victim", 2, code=code)
    with nobody_delivers(config):
        victim.tell()
        assert victim.line() == "done"
        victim.kill()

    client = TelemetryClient(config)
    client.end_run(client.start_run("agent", "job"))
    client.flush(10)
    run = eventually(lambda: (found := service.runs.get("victim-open")) and found.ended and found)

    assert run.status == "failed"
    assert f"process {victim.pid}" in run.error_summary
    assert service.runs["victim-1"].status == "success"


@pytest.mark.durability
def test_deliverer_killed_between_delivery_and_ack_delivers_again_to_no_effect(config, service, process):
    """The service has committed, the answer is held, the process dies: the next one repeats, one row each."""
    hold = threading.Event()
    service.script(Fault(hold=hold, after_keeping=True, status=503))
    victim = process("victim", 20)
    victim.tell()
    assert victim.line() == "done"
    assert service.arrived.wait(PATIENCE_S)
    victim.kill()
    hold.set()

    client = TelemetryClient(config)
    client.end_run(client.start_run("agent", "job", run_id="next"))
    assert client.flush(15)

    eventually(lambda: len(list_writers(config.buffer_dir)) == 1)
    assert sorted(run.run_id for run in service.rows) == sorted(["next", *(f"victim-{n}" for n in range(20))])
    assert {run.status for run in service.rows} == {"success"}


@pytest.mark.durability
def test_backlog_of_a_process_without_delivery_is_delivered_by_another(config, service, process):
    """`os._exit` runs no handler: what was returned from is in the buffer and soon with the service."""
    code = WORK.replace("sys.stdin.readline()\n", "", 1).replace(
        'print("done", flush=True)\n', "import os\nos._exit(0)\n"
    )
    with nobody_delivers(config):
        victim = Process(
            code, "gone", 3, env={"TELEMETRY_BASE_DIR": str(config.base_dir), "TELEMETRY_API_URL": service.url}
        )
        assert victim.end()[0] == 0
    assert len(buffer_lines(config, "run")) == 6

    client = TelemetryClient(config)
    client.end_run(client.start_run("agent", "job", run_id="next"))
    assert client.flush(15)

    eventually(lambda: sorted(service.runs) == ["gone-0", "gone-1", "gone-2", "next"])


def state(number=1, status="running", updated=0):
    from on_disk import record

    return record(number, status=status, updated=updated).to_fields()


def names():
    """The recorder's own threads: a service of another test in this process has others."""
    ours = ("agent-telemetry-delivery", "agent-telemetry-tick")
    return sorted(thread.name for thread in threading.enumerate() if thread.name in ours)


def test_threads_exist_from_the_first_record_to_the_stop(recorder):
    """Two of them, both daemons; stopping ends them, twice is harmless, a later record begins anew."""
    assert names() == []
    recorder.record_run(state())
    assert names() == ["agent-telemetry-delivery", "agent-telemetry-tick"]
    assert all(thread.daemon for thread in threading.enumerate() if thread.name.startswith("agent-telemetry"))

    recorder.close(5.0)
    recorder.close(5.0)
    assert names() == []

    recorder.record_run(state(2))
    assert names() == ["agent-telemetry-delivery", "agent-telemetry-tick"]


def test_events_alone_wait_for_no_delivery(recorder, service):
    """An event stays in the journal: the service is not asked."""
    recorder.record_event({"run_id": "r", "event_type": "e"})
    assert recorder.flush(5)
    recorder.close(5.0)

    assert service.requests == []


def test_flush_racing_stop_returns(recorder, service):
    """Ten flushes while the recorder is closed: each returns in its time, and what was delivered was delivered."""
    for number in range(20):
        recorder.record_run(state(number, "success", 1))
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(recorder.flush(5.0))) for _ in range(10)]
    for thread in threads:
        thread.start()
    recorder.close(5.0)
    for thread in threads:
        thread.join(PATIENCE_S)

    assert not any(thread.is_alive() for thread in threads)
    assert len(answers) == 10
    assert len(service.rows) == 20


def test_records_racing_stop_are_kept(config, service):
    """Runs are recorded while others close, again and again: every one reaches the service."""
    recorder = Recorder(config)
    stop = threading.Event()

    def close():
        while not stop.is_set():
            recorder.close(5.0)

    closer = threading.Thread(target=close)
    closer.start()
    for number in range(100):
        recorder.record_run(state(number, "success", 1))
    stop.set()
    closer.join()
    recorder.record_run(state(1000, "success", 1))

    eventually(lambda: len(service.rows) == 101)
    recorder.close(5.0)


def test_flush_tells_of_what_was_recorded_before_a_close(config, service):
    """Recorded, closed while the service was away, recorded again: True only when both are there."""
    service.kill()
    recorder = Recorder(config)
    recorder.record_run(state(1, "success", 1))
    recorder.close(0.1)
    recorder.record_run(state(2, "success", 1))
    assert not recorder.flush(0.2)
    service.start()

    assert recorder.flush(15)
    assert len(service.rows) == 2
    recorder.close(5.0)


def test_flush_waits_for_what_this_process_left_as_an_earlier_writer(config, service):
    """A stop that is late gives up the segment that a record of after the close went to: it still has to arrive."""
    service.kill()
    recorder = Recorder(config)
    recorder.record_run(state(1, "success", 1))
    recorder.leave()
    assert not recorder.flush(0.2)
    service.start()

    eventually(lambda: recorder.flush(1.0))
    assert len(service.rows) == 1
    recorder.close(5.0)


def test_stop_is_bounded_while_the_target_hangs(recorder, service):
    """The limit and a little; the record waits for the next deliverer."""
    hold = threading.Event()
    service.script(Fault(hold=hold))
    try:
        recorder.record_run(state(1, "success", 1))
        assert service.arrived.wait(PATIENCE_S)
        recorder.close(0.3)  # returns while the answer is still held
    finally:
        hold.set()


@pytest.mark.parametrize(
    "fault",
    [Fault(429, headers={"Retry-After": "60"}), Fault(503, headers={"Retry-After": "3600"})],
    ids=["429", "503"],
)
def test_flush_asks_nothing_of_a_service_that_asked_to_wait(config, service, fault):
    """False at once, without a request, while the next attempt lies beyond the flush's own time."""
    service.script(*[fault] * 50)
    client = TelemetryClient(config)
    client.end_run(client.start_run("agent", "job", run_id="mine"))
    assert not client.flush(30)
    asked = len(service.requests)

    began = time.monotonic()
    answers = [client.flush(30) for _ in range(10)]

    assert answers == [False] * 10
    assert time.monotonic() - began < 30
    assert (len(service.requests), len(service.batches())) == (asked, 1)


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_flush_hurries_no_retry(config, service, status):
    """Ten threads that flush send no more than the back-off allows."""
    service.script(*[Fault(status)] * 1000)
    client = TelemetryClient(config)
    client.end_run(client.start_run("agent", "job", run_id="mine"))
    threads = [threading.Thread(target=client.flush, args=(1.0,)) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(service.requests) < 30  # 146 in five seconds it was


def test_deliverer_survives_its_own_bugs(config, service, monkeypatch, caplog):
    """An exception inside a pass is counted and logged; delivery goes on."""
    from otel_agent_telemetry.delivery import drain

    original = drain.Drain.run_pass
    failures = iter([RuntimeError("ours"), OSError(5, "io")])

    def sometimes(self, *args, **kwargs):
        # Of this test's folder alone: services of other tests in this process deliver too.
        problem = next(failures, None) if self.folder == config.buffer_dir else None
        if problem is not None:
            raise problem
        return original(self, *args, **kwargs)

    monkeypatch.setattr(drain.Drain, "run_pass", sometimes)
    client = TelemetryClient(config)
    client.end_run(client.start_run("agent", "job", run_id="mine"))

    assert client.flush(15)
    assert client._recorder.counters.internal_errors == 2
    assert "delivery failed" in caplog.text


def test_buffer_folder_removed_under_us(config, service):
    """Its loss is noticed within seconds: later runs are buffered and delivered again, the journal has all."""
    import shutil

    client = TelemetryClient(config)
    client.end_run(client.start_run("agent", "job", run_id="before"))
    assert client.flush(10)
    shutil.rmtree(config.buffer_dir)

    def again():
        client.end_run(client.start_run("agent", "job", run_id="after"))
        client.flush(0.3)
        return "after" in service.runs

    eventually(again)


def test_database_is_written_by_the_one_deliverer(tmp_path):
    """Without a service: three processes, one database, no lock errors, every run."""
    config = isolated_config(tmp_path / "base")
    env = {"TELEMETRY_BASE_DIR": str(config.base_dir)}
    processes = [Process(WORK, name, 30, env=env) for name in "abc"]
    for running in processes:
        assert running.line() == "ready"
    for running in processes:
        running.tell()
    for running in processes:
        running.tell()
        status, out, err = running.end()
        assert (status, err) == (0, "")
        assert out.strip() == "done"

    eventually(lambda: len(rows_of(config)) == 90)
    assert {row["status"] for row in rows_of(config).values()} == {"success"}
    assert os.listdir(config.buffer_dir / "..") != []
