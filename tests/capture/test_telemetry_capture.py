"""`TelemetryCapture`: entries, queries, and what real processes do to the file."""

from __future__ import annotations

import json
import math
import os
import random
import shlex
import signal
import subprocess
import sys
import threading
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
from on_disk import ROOT, Process, child_environment, eventually, rows_of, run_python

from otel_agent_telemetry import TelemetryCapture
from otel_agent_telemetry.locks import FileLock

SEED = int(os.environ.get("DURABILITY_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
ENTRIES = 1000
WRITER = """
import os, sys
from otel_agent_telemetry import TelemetryCapture, TelemetryConfig
config = TelemetryConfig(base_dir=sys.argv[1], discover_service=False, db_synchronous="OFF", exit_timeout_s=0.2)
telemetry = TelemetryCapture(config=config)
for number in range(int(sys.argv[3])):
    entry = telemetry.capture("skill", "success", number, sys.argv[2], {"number": number, "filler": "x" * (number % 300)})
    os.write(1, f"{number} {entry['run_id']}\\n".encode())
"""
HOLD_AND_STOP = """
import fcntl, os, signal, sys
file = open(sys.argv[1], "r+b")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.fixture
def impatient(config):
    """Waits for 20 ms at most when another program holds the file's lock."""
    return TelemetryCapture(config=config.with_(capture_lock_timeout_s=0.02))


def test_no_part_of_an_entry_or_its_run_holds_a_secret(config, telemetry, entries):
    """Names of skill and caller, inputs by key and as arguments, metadata, the error message."""
    url = "https://u:hunter2@h/x"
    inputs = {"argv": ["mysql", "--password", "hunter2"], "env": [{"name": "TOKEN", "value": "hunter2"}], url: 1}
    entry = telemetry.capture(
        f"skill {url}", "error", 1, f"by {url}", inputs, "refused: token=hunter2", {"db_pass": "hunter2"}
    )
    telemetry.client.flush()
    journal = "".join(path.read_text("utf-8") for path in config.ndjson_dir.iterdir())
    assert "hunter2" not in f"{entry}{entries()}{journal}"
    assert entry["skill"] == "skill https://***REDACTED***@h/x"


def test_eight_processes_two_of_them_killed_lose_nothing(config, telemetry, entries):
    """8 × 1000 entries: a valid array, with every acknowledged entry once, each of them a run."""
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    with_names = [f"writer-{number}" for number in range(8)]
    processes = [Process(WRITER, config.base_dir, name, ENTRIES) for name in with_names]
    acknowledged = dict.fromkeys(with_names, 0)
    ids = set()

    def read(name, process, killed_at):
        for line in process.popen.stdout:
            number, _, run_id = line.strip().partition(" ")
            if not run_id or not line.endswith("\n"):
                continue
            acknowledged[name] = int(number) + 1
            ids.add(run_id)
            if killed_at == int(number):
                process.popen.send_signal(signal.SIGKILL)

    kills = [chance.randrange(50, ENTRIES - 200), chance.randrange(50, ENTRIES - 200), *[None] * 6]
    readers = [
        threading.Thread(target=read, args=arguments) for arguments in zip(with_names, processes, kills, strict=True)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(120)
    for process in processes:
        with process:
            process.popen.wait(60)

    assert telemetry.capture("last", "success", 1, "test")
    found = telemetry.query(skill="skill")
    array = [entry for entry in entries() if entry["skill"] == "skill"]
    assert len(array) == len(found)
    counted = Counter(entry["run_id"] for entry in array)
    assert set(counted.values()) == {1}
    assert ids <= set(counted)
    assert sum(acknowledged.values()) >= 6 * ENTRIES
    assert [acknowledged[name] for name in with_names[2:]] == [ENTRIES] * 6
    eventually(lambda: ids <= set(rows_of(config)), within_s=60)


def test_threads_lose_nothing(config, telemetry, entries):
    """Sixteen threads at once, one file: every entry once."""

    def work(thread):
        for number in range(100):
            telemetry.capture("skill", "success", number, f"thread-{thread}")

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(telemetry.query()) == 1600
    assert len(entries()) == 1600


def test_forked_children_write_under_ids_of_their_own(config):
    """A pool that was forked after the first entry."""
    out = run_python(
        """
import os, sys
from otel_agent_telemetry import TelemetryCapture, TelemetryConfig
telemetry = TelemetryCapture(config=TelemetryConfig(base_dir=sys.argv[1], discover_service=False))
telemetry.capture("parent", "success", 1, "test")
children = []
for number in range(4):
    pid = os.fork()
    if pid == 0:
        for n in range(50):
            telemetry.capture("child", "success", n, f"child-{number}")
        os._exit(0)
    children.append(pid)
for pid in children:
    os.waitpid(pid, 0)
print(len(telemetry.query(skill="child")), len({entry["run_id"] for entry in telemetry.query()}))
""",
        config.base_dir,
    )
    assert out.split() == ["200", "201"]


def test_entries_are_in_the_file_after_their_processes_ended(config, telemetry, entries):
    """8 × 50 entries of processes that leave no time for anything afterwards: the array has all of them."""
    code = """
import os, sys
from otel_agent_telemetry import TelemetryCapture, TelemetryConfig
config = TelemetryConfig(base_dir=sys.argv[1], discover_service=False, capture_lock_timeout_s=60.0)
telemetry = TelemetryCapture(config=config)
print("ready", flush=True)
sys.stdin.readline()
for number in range(50):
    telemetry.capture("skill", "success", number, sys.argv[2])
os._exit(0)
"""
    processes = [Process(code, config.base_dir, f"writer-{number}") for number in range(8)]
    for process in processes:
        assert process.line() == "ready"
    for process in processes:
        process.tell()
    for process in processes:
        assert process.end()[0] == 0
    assert Counter(entry["caller"] for entry in entries()) == {f"writer-{number}": 50 for number in range(8)}


def test_a_stopped_process_that_holds_the_file_stops_nobody(config, impatient, caplog, entries):
    """Entries are acknowledged meanwhile with one warning, queries show them, and the next entry adds them."""
    impatient.capture("skill", "success", 0, "before")
    with Process(HOLD_AND_STOP, config.capture_file) as other:
        assert other.line() == "held"
        for number in range(5):
            impatient.capture("skill", "success", number, "meanwhile")
        assert len(entries()) == 1
        assert [entry["duration_ms"] for entry in impatient.query(caller="meanwhile")] == [4, 3, 2, 1, 0]
        other.kill()
    warnings = [record.getMessage() for record in caplog.records if "locked" in record.getMessage()]
    assert len(warnings) == 1
    assert str(config.capture_file) in warnings[0]
    impatient.capture("skill", "success", 0, "after")
    assert sorted(entry["caller"] for entry in entries()) == ["after", "before", *["meanwhile"] * 5]


def test_the_background_adds_what_was_set_aside(config, impatient, entries):
    """Without another capture: within a second or so the array has it."""
    impatient.capture("skill", "success", 0, "before")
    lock = FileLock(config.capture_file)
    assert lock.try_acquire()
    impatient.capture("skill", "success", 0, "set aside")
    lock.release()
    eventually(lambda: [entry["caller"] for entry in entries()] == ["before", "set aside"])


def test_the_interpreters_exit_adds_what_was_set_aside(config, entries):
    """A short program whose entry found the file locked."""
    out = run_python(
        """
import sys
from otel_agent_telemetry import TelemetryCapture, TelemetryConfig
from otel_agent_telemetry.locks import FileLock
config = TelemetryConfig(base_dir=sys.argv[1], discover_service=False, capture_lock_timeout_s=0.0)
telemetry = TelemetryCapture(config=config)
telemetry.capture("skill", "success", 0, "first")
lock = FileLock(config.capture_file)
assert lock.try_acquire()
telemetry.capture("skill", "success", 0, "second")
print(len(telemetry.query()))
lock.release()
""",
        config.base_dir,
    )
    assert out.strip() == "2"
    assert len(entries()) == 2


@pytest.mark.requires("namespaces")
def test_hosts_that_share_a_disk_lose_nothing(config, telemetry, entries):
    """Processes with the same process id on hosts of different names, at once."""
    script = "hostname $0 && exec " + shlex.join([sys.executable, "-c", WRITER, str(config.base_dir)]) + " $0 200"
    running = [
        subprocess.Popen(
            ["unshare", "--uts", "--pid", "--fork", "--mount-proc", "sh", "-c", script, f"host-{number}"],
            cwd=ROOT,
            env=child_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    said = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], said
    assert len(telemetry.query(skill="skill")) == 600
    assert {entry["caller"] for entry in entries()} == {"host-0", "host-1", "host-2"}


def test_rotated_files_are_queried_too(config):
    """With a small limit: newest first across files, as far as is asked."""
    telemetry = TelemetryCapture(config=config.with_(capture_max_bytes=4096))
    for number in range(100):
        telemetry.capture("skill", "success", number, "test")
    assert len(list(config.capture_file.parent.iterdir())) > 3
    assert [entry["duration_ms"] for entry in telemetry.query()] == list(range(99, -1, -1))
    assert len(telemetry.query(limit=70)) == 70


def test_a_file_that_is_no_array_is_set_aside_with_a_warning(config, telemetry, caplog, entries):
    """Nothing of it is lost, the entry is kept."""
    config.capture_file.parent.mkdir(parents=True)
    config.capture_file.write_text('{"not": "an array"}')
    telemetry.capture("skill", "success", 1, "test")
    assert len(entries()) == 1
    (aside,) = config.capture_file.parent.glob("*.set-aside")
    assert aside.read_text() == '{"not": "an array"}'
    assert str(aside) in caplog.text


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (5, 5.0),
        (0.25, 0.25),
        ("12.5", 12.5),
        (Decimal("1.5"), 1.5),
        (-3, 0.0),
        (math.nan, 0.0),
        (math.inf, 0.0),
        (None, 0.0),
        ("soon", 0.0),
        (10**400, 0.0),
    ],
    ids=str,
)
def test_durations_are_numbers_from_zero_on(telemetry, config, given, kept, entries):
    """What is none is 0; JSON has no other form for it."""
    telemetry.capture("skill", "success", given, "test")
    assert entries()[0]["duration_ms"] == kept


def test_a_duration_beyond_all_clocks_is_clamped(telemetry, config):
    """A run cannot have begun before there were years."""
    entry = telemetry.capture("skill", "success", 1e300, "test")
    assert telemetry.client.flush()
    assert rows_of(config)[entry["run_id"]]["start_time"] < "1950"


def test_the_run_lasts_as_long_as_the_entry_says(telemetry, config):
    """It ended when it was captured and began `duration_ms` before."""
    entry = telemetry.capture("skill", "success", 61_500.9, "test")
    assert telemetry.client.flush()
    row = rows_of(config)[entry["run_id"]]
    assert row["duration_ms"] == 61_500
    assert row["end_time"] == entry["timestamp"]


def test_the_callers_objects_stay_the_callers(telemetry):
    """The entry is a copy, and nothing that was given is changed."""
    inputs = {"list": [1], "password": "p"}
    entry = telemetry.capture("skill", "success", 1, "test", inputs)
    entry["inputs"]["list"].append(2)
    assert inputs == {"list": [1], "password": "p"}


def test_names_of_any_kind(telemetry, config, entries):
    """Not text, empty, enormous: kept as far as they go."""
    telemetry.capture(None, "success", 1, "")
    telemetry.capture("s" * 10_000, "success", 1, object)
    first, second = entries()
    assert (first["skill"], first["caller"]) == ("unknown", "unknown")
    assert len(second["skill"]) == 1000
    assert second["caller"] == "<class 'object'>"


@pytest.mark.parametrize("status", ["failed", "SUCCESS", "", None, 5, "x" * 5000, ["success"]])
def test_only_the_five_statuses_are_taken(telemetry, config, status):
    """Here, unlike everywhere else, another one is an error."""
    with pytest.raises(ValueError, match="Must be one of: success, failure, timeout, error, pending") as raised:
        telemetry.capture("skill", status, 1, "test")
    assert len(str(raised.value)) < 1500
    assert not config.capture_file.exists()


def test_queries_see_what_other_programs_wrote(telemetry, config):
    """Entries of the seed's own program, without a run id, and elements that are no entries."""
    config.capture_file.parent.mkdir(parents=True)
    config.capture_file.write_text(json.dumps([{"skill": "old", "status": "success"}, 7, "text", None], indent=2))
    telemetry.capture("new", "success", 1, "test")
    assert [entry["skill"] for entry in telemetry.query()] == ["new", "old"]
    assert telemetry.query(skill="old") == [{"skill": "old", "status": "success"}]


def test_queries_that_match_nothing(telemetry):
    """No file, no match, no room."""
    assert telemetry.query() == []
    telemetry.capture("skill", "success", 1, "test")
    assert telemetry.query(skill="other") == []
    assert telemetry.query(status="splendid") == []
    assert telemetry.query(limit=0) == []
    assert telemetry.query(limit=-1) == []


def test_a_full_disk_is_logged_and_the_run_is_kept(small_disk, config, caplog):
    """The file's disk is full, the runs' is not: `capture` returns its entry."""
    telemetry = TelemetryCapture(small_disk / "telemetry.json", config=config)
    telemetry.capture("skill", "success", 1, "test")
    (small_disk / "filler").write_bytes(b"x" * 59_000)
    for number in range(20):
        assert telemetry.capture("skill", "success", number, "test", {"filler": "x" * 2000})["run_id"]
    kept = json.loads((small_disk / "telemetry.json").read_text())
    assert 1 <= len(kept) < 21
    assert "telemetry.json failed: OSError" in caplog.text
    assert telemetry.client.flush()
    assert len(rows_of(config)) == 21


def test_two_captures_of_one_file_share_it(config):
    """However often the object is made, the background looks after one file."""
    made = [TelemetryCapture(config=config) for _ in range(50)]
    assert len({id(one._file) for one in made}) == 1
    assert len(made[0].client._recorder.periodic_tasks) == 1


def test_every_line_reaches_the_disk_when_asked(config, monkeypatch):
    """`TELEMETRY_FSYNC=always`: forced before `capture` returns; `off`: never by us."""
    synced = []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (synced.append(str(Path(f"/proc/self/fd/{fd}").readlink())), real(fd))[1]
    )
    TelemetryCapture(config=config.with_(fsync="always")).capture("skill", "success", 1, "test")
    assert str(config.capture_file) in synced
