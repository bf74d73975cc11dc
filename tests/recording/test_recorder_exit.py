"""Runs at the exit of their process, and on a disk that is full."""

from __future__ import annotations

import json
import subprocess

import pytest
from on_disk import Process, eventually, journal_lines, nobody_delivers, rows_of, run_python
from record_cases import environment, state

from otel_agent_telemetry.buffer.health import live_counters
from otel_agent_telemetry.recording.recorder import Recorder
from otel_agent_telemetry.testing import isolated_config

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
