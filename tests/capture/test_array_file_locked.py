"""Many writers of one array file: the lock is waited for, and what it keeps out is set aside and added later."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager

import orjson
import pytest
from array_cases import MAX_BYTES, entry, numbers
from on_disk import Process

from otel_agent_telemetry.capture.array_file import ArrayFile
from otel_agent_telemetry.capture.array_reader import newest_first
from otel_agent_telemetry.capture.set_aside import SetAsideEntries
from otel_agent_telemetry.locks import FileLock

HOLD = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.readline()
"""


@contextmanager
def locked(path):
    """Hold the lock of an array file as another program does."""
    lock = FileLock(path)
    assert lock.try_acquire()
    yield
    lock.release()


def test_a_lock_that_is_released_in_time_is_waited_for(path):
    """While another process holds the lock the call does not return; when it does, the entry is in the array."""
    array = ArrayFile(path, max_bytes=MAX_BYTES, lock_timeout_s=60.0)
    array.append(entry(1))
    begins, added = threading.Event(), []

    def append():
        begins.set()
        added.append(array.append(entry(2)))

    with Process(HOLD, path) as other:
        assert other.line() == "held"
        thread = threading.Thread(target=append)
        thread.start()
        begins.wait()
        thread.join(0.05)
        assert thread.is_alive()
        assert numbers(path) == [1]
        other.tell()
        thread.join()
        other.end()
    assert added == [True]
    assert numbers(path) == [1, 2]


def test_an_entry_is_set_aside_when_the_lock_stays_held(path):
    """Past the timeout the entry is kept beside the file, queries find it, and the next entry adds it."""
    array = ArrayFile(path, max_bytes=MAX_BYTES, lock_timeout_s=0.02)
    array.append(entry(1))
    with Process(HOLD, path) as other:
        assert other.line() == "held"
        assert array.append(entry(2)) is False
        assert numbers(path) == [1]
        assert [item["n"] for item in array.entries()] == [2, 1]
        assert array.add_set_aside() is False
        other.tell()
        other.end()
    assert ArrayFile(path, max_bytes=MAX_BYTES).append(entry(3))
    assert numbers(path) == [1, 3, 2]
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_a_query_of_any_process_adds_what_was_set_aside(path):
    """The process that set the entry aside need not live."""
    array = ArrayFile(path, max_bytes=MAX_BYTES)
    array.append(entry(1))
    set_aside(array, 2)
    assert [item["n"] for item in ArrayFile(path, max_bytes=MAX_BYTES).entries()] == [2, 1]
    assert numbers(path) == [1, 2]


def test_a_lock_of_a_dead_process_holds_nobody_up(array, path):
    """The kernel releases the lock; what was set aside is added."""
    array.append(entry(1))
    with Process(HOLD, path) as other:
        assert other.line() == "held"
        array.append(entry(2), wait=False)
        other.kill()
    assert array.add_set_aside() is True
    assert numbers(path) == [1, 2]


def test_a_coroutine_waits_off_the_event_loop(path):
    """Other tasks run while an entry waits for the lock, and it is in the array when the call returns."""
    array = ArrayFile(path, max_bytes=MAX_BYTES, lock_timeout_s=60.0)
    array.append(entry(1))
    lock = FileLock(path)
    assert lock.try_acquire()

    async def main():
        waiting = asyncio.create_task(array.append_async(entry(2)))
        for _ in range(100):
            await asyncio.sleep(0.0001)
        assert not waiting.done()
        lock.release()
        return await waiting

    assert asyncio.run(main()) is True
    assert numbers(path) == [1, 2]


def test_a_coroutine_whose_lock_stays_held_sets_the_entry_aside(path):
    """The timeout counts for coroutines as well."""
    array = ArrayFile(path, max_bytes=MAX_BYTES, lock_timeout_s=0.02)
    array.append(entry(1))
    with locked(path):
        assert asyncio.run(array.append_async(entry(2))) is False
    assert [item["n"] for item in array.entries()] == [2, 1]


def test_a_coroutine_that_is_cancelled_while_it_waits_loses_no_entry(path):
    """The entry is set aside and the cancellation propagates at once."""
    array = ArrayFile(path, max_bytes=MAX_BYTES, lock_timeout_s=60.0)
    array.append(entry(1))

    async def main():
        waiting = asyncio.create_task(array.append_async(entry(2)))
        await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    with locked(path):
        asyncio.run(main())
    assert [item["n"] for item in array.entries()] == [2, 1]


def test_a_coroutine_without_an_event_loop_waits_as_a_function_does(path):
    """Driven by hand, it never yields to a driver that would not understand what it waits for."""
    array = ArrayFile(path, max_bytes=MAX_BYTES, lock_timeout_s=0.02)
    array.append(entry(1))
    with locked(path), pytest.raises(StopIteration) as returned:
        array.append_async(entry(2)).send(None)
    assert returned.value.value is False


def set_aside(array, *entries):
    """Append entries while the file is locked."""
    array.path.parent.mkdir(parents=True, exist_ok=True)
    with locked(array.path):
        for number in entries:
            assert array.append(entry(number), wait=False) is False


def test_many_set_aside_entries_are_all_added_in_order(array, path):
    """Oldest first; the folder goes away."""
    set_aside(array, *range(200))
    assert array.add_set_aside()
    assert numbers(path) == list(range(200))
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_what_a_power_cut_left_of_a_set_aside_entry_is_put_beside(array, path):
    """An empty file and a torn one are no entries; the array stays one, and nothing is deleted."""
    array.append(entry(1))
    folder = array._set_aside.folder
    folder.mkdir()
    (folder / "00000000000000000000-d.json").mkdir()
    (folder / "00000000000000000001-a.json").write_bytes(b"")
    (folder / "00000000000000000002-b.json").write_bytes(entry(2)[:9])
    (folder / "00000000000000000003-c.json").write_bytes(entry(3))
    (folder / ".0123456789abcdef").write_bytes(entry(4)[:9])
    assert array.add_set_aside()
    assert numbers(path) == [1, 3]
    assert len(list(path.parent.glob("*.damaged"))) == 3


def test_a_folder_that_comes_and_goes_keeps_every_entry(path):
    """Entries are set aside while another thread takes what is there, again and again."""
    entries = SetAsideEntries(path)
    done, taken = threading.Event(), []

    def take():
        while not done.is_set() or entries.any():
            with entries.taken() as found:
                taken.extend(found)

    other = threading.Thread(target=take)
    other.start()
    for number in range(500):
        entries.put(entry(number), number)
    done.set()
    other.join()
    assert sorted(orjson.loads(item)["n"] for item in taken) == list(range(500))


@pytest.mark.parametrize("afterwards", ["nothing", "an entry", "a rotation"])
@pytest.mark.parametrize("torn", [False, True])
def test_a_holder_that_died_after_its_write_adds_nothing_twice(path, monkeypatch, torn, afterwards):
    """What it took is in the array already, whatever was written since: it is removed and not added again."""
    array = ArrayFile(path, max_bytes=MAX_BYTES)
    array.append(entry(1))
    set_aside(array, 2, 3)
    if torn:
        path.write_bytes(path.read_bytes().removesuffix(b"\n]\n") + b",\n" + entry(99, text="x" * 500)[:-1])
    with monkeypatch.context() as dies:  # between the write and the removal
        dies.setattr("otel_agent_telemetry.capture.set_aside.shutil.rmtree", _die)
        with pytest.raises(KeyboardInterrupt):
            array.add_set_aside()
    expected = [3, 2, 1]
    if afterwards != "nothing":
        ArrayFile(path, max_bytes=1 if afterwards == "a rotation" else MAX_BYTES).append(entry(4))
        expected = [4, 3, 2, 1]

    again = ArrayFile(path, max_bytes=MAX_BYTES)
    assert again.add_set_aside()

    assert [item["n"] for item in again.entries()] == expected
    assert not again._set_aside.any()


def test_a_holder_that_died_before_its_write_loses_nothing(path, monkeypatch):
    """What it took is added by the next entry, with what was set aside since."""
    array = ArrayFile(path, max_bytes=MAX_BYTES)
    array.append(entry(1))
    set_aside(array, 2, 3)
    with monkeypatch.context() as dies:
        dies.setattr("otel_agent_telemetry.capture.array_file._add", _die)
        with pytest.raises(KeyboardInterrupt):
            array.add_set_aside()
    set_aside(array, 4)
    array.append(entry(5))
    assert sorted(numbers(path)) == [1, 2, 3, 4, 5]
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def _die(*_):
    raise KeyboardInterrupt


def test_a_write_that_fails_leaves_what_is_set_aside(small_disk):
    """A disk that fills while set-aside entries are added: none is lost, none doubled."""
    array = ArrayFile(small_disk / "telemetry.json", max_bytes=MAX_BYTES)
    array.append(entry(1))
    lock = FileLock(array.path)
    assert lock.try_acquire()
    for number in range(2, 8):
        array.append(entry(number, filler="x" * 1500), wait=False)
    lock.release()
    filler = small_disk / "filler"
    with pytest.raises(OSError), filler.open("wb", buffering=0) as file:
        for _ in range(100):
            file.write(b"x" * 4096)
    with pytest.raises(OSError):
        array.add_set_aside()
    assert numbers(array.path) == [1]
    filler.unlink()
    assert array.add_set_aside()
    assert numbers(array.path) == [1, 2, 3, 4, 5, 6, 7]


def test_a_reader_misses_nothing_while_others_rotate(path, tmp_path):
    """What was acknowledged before a reader begins is among what it finds, once."""
    writer = """
import sys, pathlib
from otel_agent_telemetry.capture.array_file import ArrayFile
array = ArrayFile(pathlib.Path(sys.argv[1]), max_bytes=4096)
for n in range(1500):
    array.append(b'{"n":%d,"pad":"%s"}' % (n, b"x" * 400))
    print(n, flush=True)
"""
    path.parent.mkdir()
    acknowledged = tmp_path / "acknowledged"
    with Process(f"import sys\nsys.stdout = open({str(acknowledged)!r}, 'w')\n{writer}", path) as process:
        while process.popen.poll() is None:
            known = [int(line) for line in acknowledged.read_text().split("\n")[:-1]] if acknowledged.exists() else []
            found = [item["n"] for item in newest_first(path)]
            assert set(known) <= set(found)
            assert len(found) == len(set(found))
        assert process.end()[0] == 0
    assert len(list(newest_first(path))) == 1500
