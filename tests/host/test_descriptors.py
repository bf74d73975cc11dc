"""Applications that close and reuse descriptors by number: nothing of ours lands in their files."""

import pytest
from on_disk import journal_lines, rows_of
from programs import run_host

pytestmark = pytest.mark.requires("POSIX")

START = """
from otel_agent_telemetry import TelemetryClient
os.chdir(sys.argv[1])
client = TelemetryClient()
base = client.config.base_dir

def ours():
    return {number: path for number, path in descriptors().items() if path.startswith(str(base))}
"""

CLOSE_ALL = (
    START
    + """
with client.track_run("agent", "job", run_id="run") as run:
    run.log_event("before")
    background_has_begun()
    if sys.argv[2] == "delivering":
        assert client.flush(30)  # the connection to the database is open now
        while not (base / "buffer" / "health.json").exists():  # written after what flush() waits for: let it end
            later_than_a_comparison()
    os.closerange(3, 4096)
    theirs = [open(f"theirs-{number}", "w+b", buffering=0) for number in range(40)]
    later_than_a_comparison()
    run.log_event("after")
    run.set_metrics(items_succeeded=1)
    later_than_a_comparison()
    run.log_event("later")
client.end_run(client.start_run("agent", "job", run_id="second"))
delivered = client.flush(30)
for number, file in enumerate(theirs):
    file.write(b"theirs")
    file.close()
    assert Path(f"theirs-{number}").read_bytes() == b"theirs", (number, Path(f"theirs-{number}").read_bytes()[:200])
assert delivered
"""
)


@pytest.mark.parametrize("when", ["at once", "delivering"])
def test_every_descriptor_closed_in_mid_run(config, tmp_path, when):
    """os.closerange, and forty files of the application: recording and delivery go on in the right files."""
    run_host(config, CLOSE_ALL, tmp_path, when, quiet=False)

    assert [line["event_type"] for line in journal_lines(config, "event")] == ["before", "after", "later"]
    rows = rows_of(config)
    assert (rows["run"]["status"], rows["run"]["items_succeeded"]) == ("success", 1)
    assert rows["second"]["status"] == "success"
    states = {(line["run_id"], line["status"]) for line in journal_lines(config, "run")}
    assert ("run", "failed") not in states


TAKEN = (
    START
    + """
import logging
with client.track_run("agent", "job", run_id="run") as run:
    run.log_event("before")
    numbers = [number for number, path in ours().items() if sys.argv[2] in path]
    assert numbers, ours()
    theirs = [open(f"theirs-{number}", "w+b", buffering=0) for number in range(len(numbers))]
    for file, number in zip(theirs, numbers):
        os.close(number)
        os.dup2(file.fileno(), number)
    later_than_a_comparison()
    run.log_event("after")
    run.set_metrics(items_succeeded=1)
    later_than_a_comparison()
    run.log_event("later")
delivered = client.flush(30)
client.close()
for number, file in zip(numbers, theirs):
    os.write(number, b"still open")
    assert Path(file.name).read_bytes() == b"still open", Path(file.name).read_bytes()[:200]
assert delivered
"""
)


@pytest.mark.parametrize("which", ["events_", "-000000.jsonl", ".lock", ""])
def test_our_number_given_to_a_file_of_the_application(config, tmp_path, which):
    """The journal's, the segment's or a lock's number belongs to the application: never written to, never closed."""
    run_host(config, TAKEN, tmp_path, which, quiet=False)

    assert [line["event_type"] for line in journal_lines(config, "event")] == ["before", "after", "later"]
    assert rows_of(config)["run"]["status"] == "success"
    assert rows_of(config)["run"]["items_succeeded"] == 1


BEFORE_AND_AFTER = """
import threading
before = descriptors()
from otel_agent_telemetry import TelemetryClient
assert descriptors() == before
client = TelemetryClient()
assert descriptors() == before, "a client that records nothing opens nothing"
with client.track_run("agent", "job") as run:
    run.log_event("event")
    opened = descriptors().keys() - before.keys()
    assert {number: descriptors()[number] for number in before} == before
    os.set_blocking(0, True)
assert client.flush(30)
client.close()
assert descriptors() == before, descriptors()
assert threading.active_count() == 1
"""


def test_descriptors_before_and_after(config):
    """Importing and making a client open nothing; after close() no descriptor and no thread is left."""
    run_host(config, BEFORE_AND_AFTER)


INHERITED = """
import subprocess
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
with client.track_run("agent", "job"):
    code = "import os; print(sorted(os.listdir('/proc/self/fd'), key=int))"
    listed = subprocess.run([sys.executable, "-c", code], close_fds=False, capture_output=True, check=True, text=True)
print(listed.stdout)
"""


def test_a_subprocess_inherits_nothing_of_ours(config):
    """Every descriptor of ours is close-on-exec, also where an application passes all of its own."""
    alone = INHERITED.replace('with client.track_run("agent", "job"):', "if True:")
    assert run_host(config, INHERITED) == run_host(config, alone)


SERVICE = (
    START
    + """
with client.track_run("agent", "job", run_id="run") as run:
    assert client.flush(30)  # the connection to the service is open now
    os.closerange(3, 4096)
    import socket
    theirs = [socket.socketpair() for _ in range(20)]
    run.set_metrics(items_succeeded=1)
client.flush(30)
client.close()
for pair in theirs:
    for end in pair:
        end.setblocking(False)
        try:
            got = end.recv(1000)
        except BlockingIOError:
            got = b"nothing"
        assert got == b"nothing", got
    pair[0].send(b"still open")
"""
)


def test_sockets_of_the_application_that_got_our_numbers(config, tmp_path, service):
    """A service's connection was closed by number: nothing is sent on the application's sockets, none is closed."""
    run_host(config, SERVICE, tmp_path, env={"TELEMETRY_API_URL": service.url}, quiet=False, options=())

    assert service.runs["run"].status == "success"
    assert service.runs["run"].items_succeeded == 1
