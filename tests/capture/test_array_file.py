"""A JSON array file that grows by appending: whatever was there, whatever cut it short."""

from __future__ import annotations

import asyncio
import json
import resource
import stat
import tempfile
import threading
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from on_disk import Process

from otel_agent_telemetry.capture.array_file import ArrayFile
from otel_agent_telemetry.capture.array_reader import newest_first, rotated
from otel_agent_telemetry.capture.set_aside import SetAsideEntries
from otel_agent_telemetry.locks import FileLock
from otel_agent_telemetry.testing import ManualClock

MAX_BYTES = 1 << 20
HOLD = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "registry" / "telemetry.json"


@pytest.fixture
def array(path):
    return ArrayFile(path, max_bytes=MAX_BYTES)


def entry(number, **more):
    return orjson.dumps({"n": number, "text": 'quotes " and ] and },{ and \n', **more})


def numbers(path):
    """What any reader of JSON finds."""
    return [item["n"] for item in json.loads(path.read_text("utf-8"))]


def given_file(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_new_file_is_an_array_with_private_modes(array, path):
    """The first entry makes the folder (0700) and the file (0600)."""
    assert array.append(entry(1))
    assert numbers(path) == [1]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_every_entry_leaves_an_array_of_one_line_each(array, path):
    """After each entry the file is valid JSON, and what was written is not written again."""
    for number in range(5):
        before = path.read_bytes().removesuffix(b"\n]\n") if number else b"["
        array.append(entry(number))
        assert numbers(path) == list(range(number + 1))
        assert path.read_bytes().startswith(before)
    assert len(path.read_bytes().splitlines()) == 7


FOREIGN = {
    "compact": '[{"n": 1}, {"n": 2}]',
    "with a line feed": '[{"n": 1}, {"n": 2}]\n',
    "indented": json.dumps([{"n": 1}, {"n": 2, "deep": [{"a": [1]}]}], indent=2),
    "indented by nothing": json.dumps([{"n": 1}, {"n": 2, "deep": [[1]]}], indent=0),
    "a line each": '[{"n": 1},\n {"n": 2}]',
    "bracket beside": '[\n{"n": 1},\n{"n": 2}]\r\n',
    "space everywhere": ' \n [ {"n": 1} , {"n": 2} ] \n\n',
}


@pytest.mark.parametrize("text", FOREIGN.values(), ids=FOREIGN)
def test_an_array_of_another_program_is_added_to(array, path, text):
    """Whatever its form, its elements stay, and ours come behind."""
    given_file(path, text)
    assert array.append(entry(3))
    assert array.append(entry(4))
    assert numbers(path) == [1, 2, 3, 4]
    assert array.foreign_file is None
    assert [item["n"] for item in newest_first(path)] == [4, 3, 2, 1]


@pytest.mark.parametrize("text", ["", "[]", "[ ]", "[\n]\n", " [\n\n] \n", "\n\n", "\0\0\0\0", "["])
def test_an_array_without_elements_is_added_to(array, path, text):
    """An empty file, an empty array in any form, and one that was just begun."""
    given_file(path, text)
    array.append(entry(1))
    array.append(entry(2))
    assert numbers(path) == [1, 2]
    assert array.foreign_file is None


NO_ARRAY = {
    "an object": '{"n": 1}',
    "text": "telemetry is kept elsewhere",
    "lines of objects": '{"n": 1}\n{"n": 2}\n',
    "a torn array of another program": '[\n  {\n    "n": 1,\n    "inputs": {\n      "a": [\n        1\n      ]',
    "an array that something follows": '[{"n": 1}] and more',
    "binary": bytes(range(256)),
    "a byte order mark": "\ufeff[]",
    "an array that ends twice": '[{"n": 1}]]',
    "torn behind an inner bracket": '[\n{\n"n": 1,\n"inputs": {\n"a": [\n1\n]',
    "a longer array's end behind a shorter one": '[{"n": 1}]\n"n": 2\n}\n]',
    "a table of another language": '[tool]\nfiles = [\n"a"\n]',
}


@pytest.mark.parametrize("text", NO_ARRAY.values(), ids=NO_ARRAY)
def test_a_file_that_is_no_array_is_set_aside_whole(array, path, text):
    """It keeps every byte under another name, the new file is an array, and its new name is known."""
    original = given_file(path, text).read_bytes()
    assert array.append(entry(1))
    assert numbers(path) == [1]
    assert array.foreign_file is not None
    assert array.foreign_file.read_bytes() == original
    assert array.foreign_file.parent == path.parent


@given(kept=st.integers(0, 3), cut=st.integers(0, 200), zeros=st.integers(0, 20))
def test_a_write_that_was_cut_short_is_repaired(tmp_path_factory, kept, cut, zeros):
    """Whatever part of a write reached the disk, the entries before it stay and the next one makes it an array.

    The write's own entry may count when all of it is there; its head never does.
    """
    path = tmp_path_factory.mktemp("cut") / "telemetry.json"
    array = ArrayFile(path, max_bytes=MAX_BYTES)
    for number in range(kept):
        array.append(entry(number))
    old = path.read_bytes() if kept else b"[\n]\n"
    offset = len(old) - 3
    written = ((b",\n" if kept else b"\n") + entry(99, tags=["a]", "b"], more=[1, [2]]) + b"\n]\n")[:cut]
    torn = old[:offset] + written + old[offset + len(written) :]
    path.write_bytes(torn + b"\0" * zeros)

    array.append(entry(7))

    found = numbers(path)
    assert found in ([*range(kept), 7], [*range(kept), 99, 7])
    assert (99 in found) == (entry(99, tags=["a]", "b"], more=[1, [2]]) in torn)
    assert array.foreign_file is None
    assert [item["n"] for item in newest_first(path)] == found[::-1]


@given(cut=st.integers(1, 60))
def test_a_cut_write_behind_another_programs_array_is_repaired(tmp_path_factory, cut):
    """The same where the elements before are on one line, in a form that is not ours."""
    path = tmp_path_factory.mktemp("cut") / "telemetry.json"
    path.write_bytes(b'[{"n": 1}, {"n": 2}' + (b",\n" + entry(99) + b"\n]\n")[:cut])
    array = ArrayFile(path, max_bytes=MAX_BYTES)
    array.append(entry(3))
    assert [number for number in numbers(path) if number != 99] == [1, 2, 3]


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
    lock = FileLock(path)
    assert lock.try_acquire()
    assert asyncio.run(array.append_async(entry(2))) is False
    lock.release()
    assert [item["n"] for item in array.entries()] == [2, 1]


def test_a_coroutine_that_is_cancelled_while_it_waits_loses_no_entry(path):
    """The entry is set aside and the cancellation propagates at once."""
    array = ArrayFile(path, max_bytes=MAX_BYTES, lock_timeout_s=60.0)
    array.append(entry(1))
    lock = FileLock(path)
    assert lock.try_acquire()

    async def main():
        waiting = asyncio.create_task(array.append_async(entry(2)))
        await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())
    lock.release()
    assert [item["n"] for item in array.entries()] == [2, 1]


def test_a_coroutine_without_an_event_loop_waits_as_a_function_does(path):
    """Driven by hand, it never yields to a driver that would not understand what it waits for."""
    array = ArrayFile(path, max_bytes=MAX_BYTES, lock_timeout_s=0.02)
    array.append(entry(1))
    lock = FileLock(path)
    assert lock.try_acquire()
    with pytest.raises(StopIteration) as returned:
        array.append_async(entry(2)).send(None)
    assert returned.value.value is False
    lock.release()


def set_aside(array, *entries):
    """Append entries while the file is locked."""
    array.path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(array.path)
    assert lock.try_acquire()
    for number in entries:
        assert array.append(entry(number), wait=False) is False
    lock.release()


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


def test_a_folder_that_cannot_be_written_lets_the_file_grow():
    """Past its size the file cannot be renamed: it keeps more than none. As an ordinary user."""
    code = """
import os, sys, pathlib
from otel_agent_telemetry.capture.array_file import ArrayFile
folder = pathlib.Path(sys.argv[1])
array = ArrayFile(folder / "telemetry.json", max_bytes=100)
array.append(b'{"n":0,"filler":"%s"}' % (b"x" * 200))
os.chmod(folder, 0o555)
if os.getuid() == 0:
    os.chown(folder / "telemetry.json", 65534, 65534)
    os.setuid(65534)
for n in range(1, 4):
    print(array.append(b'{"n":%d}' % n))
"""
    with tempfile.TemporaryDirectory() as folder:  # one that an ordinary user can reach
        Path(folder).chmod(0o755)
        with Process(code, folder) as process:
            code, out, err = process.end()
        assert (code, out.split()) == (0, ["True"] * 3), err
        assert numbers(Path(folder) / "telemetry.json") == [0, 1, 2, 3]


DAMAGED = {
    "a NaN among indented elements": json.dumps([*({"n": n} for n in range(9)), {"n": float("nan")}], indent=2),
    "a lone surrogate on one line": json.dumps([*({"n": n} for n in range(9)), {"n": "\udcff"}]),
    "an integer beyond 64 bits": json.dumps([*({"n": n} for n in range(9)), {"n": 1 << 70}], indent=2),
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_values_that_other_programs_write_hide_nothing(array, path, text):
    """Python's own module writes and reads them; so do we."""
    given_file(path, text)
    array.append(entry(10))
    array.append(entry(11))
    assert array.foreign_file is None
    assert len(list(newest_first(path))) == 12


@pytest.mark.parametrize("indent", [None, 2])
def test_a_large_array_of_another_program_is_added_to(array, path, indent):
    """Past the size that is parsed on the application's thread."""
    elements = [{"n": n, "filler": "x" * 1000} for n in range(5000)]
    given_file(path, json.dumps(elements, indent=indent))
    large = ArrayFile(path, max_bytes=1 << 30)
    large.append(entry(5000))
    large.append(entry(5001))
    assert large.foreign_file is None
    assert numbers(path) == list(range(5002))
    assert next(newest_first(path))["n"] == 5001
    assert len(list(newest_first(path))) == 5002


def test_a_large_file_that_does_not_end_as_an_array_is_set_aside(array, path):
    """Torn by the program that wrote it, behind a bracket of its own."""
    elements = [{"n": n, "filler": "x" * 1000, "tags": [[1]]} for n in range(5000)]
    text = json.dumps(elements, indent=0)
    given_file(path, text[: text.rindex("]", 0, len(text) - 10) + 1])
    array.append(entry(1))
    assert array.foreign_file is not None
    assert numbers(path) == [1]


def test_a_damaged_line_hides_only_itself(array, path):
    """As a failing disk leaves one in the middle."""
    for number in range(9):
        array.append(entry(number))
    lines = path.read_bytes().split(b"\n")
    lines[5] = lines[5][:10] + b"\0" * 20
    path.write_bytes(b"\n".join(lines))
    assert [item["n"] for item in newest_first(path)] == [8, 7, 6, 5, 3, 2, 1, 0]


def test_a_full_disk_leaves_the_array_as_it_was(small_disk):
    """The entry that does not fit is refused, what is there stays an array, and there is room again later."""
    path = small_disk / "telemetry.json"
    array = ArrayFile(path, max_bytes=MAX_BYTES)
    array.append(entry(1))
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 20_000)
    kept = 1
    with pytest.raises(OSError, match=r"28|No space"):
        for number in range(2, 100):
            array.append(entry(number, filler="x" * 1000))
            kept = number
    assert numbers(path) == list(range(1, kept + 1))
    filler.unlink()
    array.append(entry(1000))
    assert numbers(path)[-1] == 1000


def test_a_size_limit_leaves_the_array_as_it_was(path):
    """A write that the system cuts short is undone."""
    array = ArrayFile(path, max_bytes=MAX_BYTES)
    array.append(entry(1))
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, hard))
    try:
        with pytest.raises(OSError):
            array.append(entry(2, filler="x" * 1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before


def test_a_file_past_its_size_gets_a_dated_name(path):
    """Each rotated file is an array, none is lost, and readers find them newest first."""
    clock = ManualClock()
    array = ArrayFile(path, max_bytes=300, clock=clock)
    for number in range(30):
        array.append(entry(number))
    files = rotated(path)
    assert len(files) > 3
    assert all(len(numbers(file)) > 1 for file in files)
    assert path.stat().st_size < 600
    assert [item["n"] for item in newest_first(path)] == list(range(29, -1, -1))
    assert array.foreign_file is None


def test_a_folder_in_the_files_place_is_an_error(array, path):
    """It raises, and the folder stays."""
    path.mkdir(parents=True)
    with pytest.raises(OSError):
        array.append(entry(1))
    assert path.is_dir()


def test_a_symbolic_link_is_followed(tmp_path, path):
    """The file that it leads to is the array; the link stays."""
    path.parent.mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere.json"
    path.symlink_to(elsewhere)
    ArrayFile(path, max_bytes=MAX_BYTES).append(entry(1))
    assert path.is_symlink()
    assert numbers(elsewhere) == [1]


def test_sync_reaches_every_file_that_was_written(path):
    """Syncing works after a rotation, after a removal, and twice."""
    array = ArrayFile(path, max_bytes=10)
    array.append(entry(1))
    array.append(entry(2))
    array.sync()
    array.append(entry(3))
    path.unlink()
    array.sync()
    array.sync()
    assert [item["n"] for item in newest_first(path)] == [2, 1]


def test_a_sync_that_fails_is_tried_again(array, path, monkeypatch):
    """A disk that answers with an error for once: the next sync does not forget the file."""
    array.append(entry(1))
    synced = []

    def once(fd):
        synced.append(fd)
        if len(synced) == 1:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync", once)
    with pytest.raises(OSError, match="Input/output"):
        array.sync()
    array.sync()
    assert len(synced) > 1


def test_a_reader_while_an_entry_is_written_sees_those_before(array, path):
    """The head of an entry at the end is no entry."""
    array.append(entry(1))
    array.append(entry(2))
    path.write_bytes(path.read_bytes().removesuffix(b"\n]\n") + b",\n" + entry(3)[:9])
    assert [item["n"] for item in newest_first(path)] == [2, 1]


def test_reading_stops_where_it_has_enough(array, path):
    """The newest entry is found without the rest: what is broken far in front is not seen."""
    for number in range(2000):
        array.append(entry(number, filler="x" * 300))
    with path.open("r+b") as file:
        file.write(b"broken beyond repair")
    assert next(newest_first(path))["n"] == 1999


def test_no_file_is_no_entry(path):
    """Neither file nor folder."""
    assert list(newest_first(path)) == []
