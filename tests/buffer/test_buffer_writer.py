from __future__ import annotations

import json
import os
import threading

import pytest

from otel_agent_telemetry.buffer.health import live_counters, read_writer_note
from otel_agent_telemetry.buffer.identity import WriterIdentity
from otel_agent_telemetry.buffer.layout import list_writers, lock_path
from otel_agent_telemetry.buffer.segment import read_segment
from otel_agent_telemetry.buffer.writer import BufferWriter
from otel_agent_telemetry.locks import FileLock
from otel_agent_telemetry.wire import encode_line

NOW = 1_760_000_000 * 10**9


@pytest.fixture
def identity():
    return WriterIdentity.of_this_process(NOW)


@pytest.fixture
def writer(tmp_path, identity):
    return BufferWriter(tmp_path / "buffer", identity, segment_bytes=4096)


def line(seq, size=0):
    return encode_line("run", {"seq": seq, "x": "y" * size})


def records(folder, kind="run"):
    return [
        record
        for files in list_writers(folder)
        for _, path in files.segments
        for read in read_segment(path, to_the_end=True)
        for record in read.records
        if record["record_type"] == kind
    ]


def test_writer_holds_its_lock_and_has_a_segment(writer, tmp_path, identity):
    """From the first moment others see that it lives, and what it writes."""
    (files,) = list_writers(tmp_path / "buffer")

    assert files.writer == identity.writer
    assert [number for number, _ in files.segments] == [0]
    assert not FileLock(files.lock).try_acquire()


def test_identity_sorts_by_time_and_names_the_process(identity):
    """`{YYYYMMDD}T{HHMMSS}-{pid}-{8 hex}`; two of one instant differ."""
    assert identity.writer.startswith(f"20251009T085320-{os.getpid()}-")
    assert WriterIdentity.of_this_process(NOW).writer != identity.writer


def test_full_segment_is_followed_by_the_next(writer, tmp_path):
    """Past `segment_bytes` a new one begins; numbers ascend; the first is sealed after two syncs."""
    for seq in range(10):
        writer.append(line(seq, 1000))
    writer.sync()
    writer.sync()

    (files,) = list_writers(tmp_path / "buffer")
    assert [number for number, _ in files.segments] == [0, 1, 2]
    assert [record["seq"] for record in records(tmp_path / "buffer")] == list(range(10))
    assert len(records(tmp_path / "buffer", "sealed")) == 2


def test_rotation_under_threads_loses_nothing(writer, tmp_path):
    """Eight threads through many rotations and syncs: each line once, each retired segment sealed at its end."""
    stop = threading.Event()

    def write(thread):
        for n in range(300):
            writer.append(line(thread * 1000 + n, 200))

    def sync():
        while not stop.wait(0.001):
            writer.sync()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    host = threading.Thread(target=sync)
    host.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    host.join()
    writer.close()

    folder = tmp_path / "buffer"
    assert sorted(record["seq"] for record in records(folder)) == sorted(
        t * 1000 + n for t in range(8) for n in range(300)
    )
    (files,) = list_writers(folder)
    for _, path in files.segments:
        kinds = [record["record_type"] for read in read_segment(path) for record in read.records]
        assert kinds[0] == "segment"
        assert kinds[-1] == "sealed"
        assert kinds.count("sealed") == 1


def test_closing_seals_and_gives_the_writer_up(writer, tmp_path, identity):
    """Afterwards anyone can see that nothing more will come."""
    writer.append(line(1))

    writer.close()

    assert len(records(tmp_path / "buffer", "sealed")) == 1
    assert FileLock(lock_path(tmp_path / "buffer", identity.writer)).try_acquire()


def test_lock_file_shows_identity_and_counters(writer, tmp_path, identity):
    """One JSON object padded to 4096 bytes, rewritten in place."""
    writer.note({"events": 3, "last_error": "journal write: OSError"})

    lock = lock_path(tmp_path / "buffer", identity.writer)
    assert lock.stat().st_size == 4096
    assert json.loads(lock.read_text())["counters"] == {"events": 3, "last_error": "journal write: OSError"}
    assert live_counters(tmp_path / "buffer")[identity.writer]["pid"] == os.getpid()


def test_long_notes_never_grow_the_file(writer, tmp_path, identity):
    """On a full disk the file could not grow; what does not fit makes the note unreadable, not larger."""
    writer.note({"last_error": "x" * 10_000})
    lock = lock_path(tmp_path / "buffer", identity.writer)
    assert lock.stat().st_size == 4096
    assert read_writer_note(lock) == {}

    writer.note({"events": 1})
    assert read_writer_note(lock)["counters"] == {"events": 1}


def test_sign_of_life_moves_the_time_of_the_lock_file(writer, tmp_path, identity):
    """A deliverer reads there when we were last seen."""
    lock = lock_path(tmp_path / "buffer", identity.writer)
    os.utime(lock, ns=(1, 1))

    writer.touch()

    assert lock.stat().st_mtime_ns > 1


@pytest.mark.parametrize("taken", ["lock", "segment", "folder"])
def test_writer_notices_what_was_taken_away(writer, tmp_path, identity, taken):
    """Removed lock, segment or folder: `lost` says so, and another writer can begin."""
    assert not writer.lost()
    folder = tmp_path / "buffer"
    if taken == "folder":
        folder.rename(tmp_path / "elsewhere")
    else:
        next(folder.glob("*.lock" if taken == "lock" else "*.jsonl")).unlink()

    assert writer.lost()
    writer.append(line(1))
    BufferWriter(folder, WriterIdentity.of_this_process(NOW + 1), segment_bytes=4096).append(line(2))


def test_identity_in_use_is_refused(writer, tmp_path, identity):
    """Two writers of one identity would mix their lines."""
    with pytest.raises(FileExistsError):
        BufferWriter(tmp_path / "buffer", identity, segment_bytes=4096)


def test_file_in_the_place_of_the_folder_is_an_error(tmp_path, identity):
    """OSError from the constructor; the caller counts it."""
    (tmp_path / "buffer").write_bytes(b"")

    with pytest.raises(NotADirectoryError):
        BufferWriter(tmp_path / "buffer", identity, segment_bytes=4096)


def test_abandoning_leaves_the_files_of_the_parent(writer, tmp_path):
    """A forked child lets go: no seal, no release of the parent's lock by name."""
    writer.append(line(1))

    writer.abandon()

    assert records(tmp_path / "buffer", "sealed") == []
    assert len(list((tmp_path / "buffer").glob("*.lock"))) == 1


def test_fate_names_what_is_known(identity):
    """Process, host; a restart is told where the boot id changed."""
    assert identity.describe_end() == f"process {os.getpid()} on {identity.host} is gone"
    rebooted = identity._replace(boot_id="00000000-before")
    assert rebooted.describe_end() == f"host {identity.host} was restarted while process {os.getpid()} ran"
    assert identity._replace(host="elsewhere").describe_end() == f"process {os.getpid()} on elsewhere is gone"
