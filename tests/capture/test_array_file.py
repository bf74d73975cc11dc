"""A JSON array file that grows by appending: whatever was there, whatever cut it short."""

from __future__ import annotations

import json
import resource
import stat
import threading

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from on_disk import Process

from otel_agent_telemetry.capture.array_file import ArrayFile
from otel_agent_telemetry.capture.array_reader import newest_first, rotated
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
    assert array.set_aside is None
    assert [item["n"] for item in newest_first(path)] == [4, 3, 2, 1]


@pytest.mark.parametrize("text", ["", "[]", "[ ]", "[\n]\n", " [\n\n] \n", "\n\n", "\0\0\0\0", "["])
def test_an_array_without_elements_is_added_to(array, path, text):
    """An empty file, an empty array in any form, and one that was just begun."""
    given_file(path, text)
    array.append(entry(1))
    array.append(entry(2))
    assert numbers(path) == [1, 2]
    assert array.set_aside is None


NO_ARRAY = {
    "an object": '{"n": 1}',
    "text": "telemetry is kept elsewhere",
    "lines of objects": '{"n": 1}\n{"n": 2}\n',
    "a torn array of another program": '[\n  {\n    "n": 1,\n    "inputs": {\n      "a": [\n        1\n      ]',
    "an array that something follows": '[{"n": 1}] and more',
    "binary": bytes(range(256)),
    "a byte order mark": "\ufeff[]",
    "an array that ends twice": '[{"n": 1}]]',
}


@pytest.mark.parametrize("text", NO_ARRAY.values(), ids=NO_ARRAY)
def test_a_file_that_is_no_array_is_set_aside_whole(array, path, text):
    """It keeps every byte under another name, the new file is an array, and it is told where."""
    original = given_file(path, text).read_bytes()
    assert array.append(entry(1))
    assert numbers(path) == [1]
    assert array.set_aside is not None
    assert array.set_aside.read_bytes() == original
    assert array.set_aside.parent == path.parent


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
    assert array.set_aside is None
    assert [item["n"] for item in newest_first(path)] == found[::-1]


@given(cut=st.integers(1, 60))
def test_a_cut_write_behind_another_programs_array_is_repaired(tmp_path_factory, cut):
    """The same where the elements before are on one line, in a form that is not ours."""
    path = tmp_path_factory.mktemp("cut") / "telemetry.json"
    path.write_bytes(b'[{"n": 1}, {"n": 2}' + (b",\n" + entry(99) + b"\n]\n")[:cut])
    array = ArrayFile(path, max_bytes=MAX_BYTES)
    array.append(entry(3))
    assert [number for number in numbers(path) if number != 99] == [1, 2, 3]


def test_a_locked_file_is_not_waited_for(array, path):
    """While another process holds the lock the entry goes beside the file; the next entry takes it along."""
    array.append(entry(1))
    with Process(HOLD, path) as other:
        assert other.line() == "held"
        assert array.append(entry(2)) is False
        assert numbers(path) == [1]
        assert array.waiting() == [entry(2)]
        assert array.settle() is False
        other.tell()
        other.end()
    array.append(entry(3))
    assert numbers(path) == [1, 2, 3]
    assert array.settle()
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_a_lock_of_a_dead_process_holds_nobody_up(array, path):
    """The kernel gives the lock back; what waited is added."""
    array.append(entry(1))
    with Process(HOLD, path) as other:
        assert other.line() == "held"
        array.append(entry(2))
        other.kill()
    assert array.settle() is True
    assert numbers(path) == [1, 2]


def test_many_waiting_entries_are_all_added_in_order(array, path):
    """More than one write takes along; oldest first; the folder goes away."""
    lock = FileLock(path)
    path.parent.mkdir(parents=True)
    assert lock.try_acquire()
    for number in range(200):
        assert array.append(entry(number)) is False
    lock.release()
    array.append(entry(200))
    assert len(numbers(path)) == 65
    assert array.settle()
    assert sorted(numbers(path)) == list(range(201))
    waited = [number for number in numbers(path) if number < 200]
    assert waited == sorted(waited)


def test_what_a_power_cut_left_of_a_waiting_entry_is_put_beside(array, path):
    """An empty file and a torn one are no entries; the array stays one, and nothing is deleted."""
    array.append(entry(1))
    folder = path.with_name(f"{path.name}.waiting")
    folder.mkdir()
    (folder / "00000000000000000001-a.json").write_bytes(b"")
    (folder / "00000000000000000002-b.json").write_bytes(entry(2)[:9])
    (folder / "00000000000000000003-c.json").write_bytes(entry(3))
    assert array.settle()
    assert numbers(path) == [1, 3]
    assert len(list(path.parent.glob("*.damaged"))) == 2
    assert not folder.exists()


def test_a_folder_that_comes_and_goes_keeps_every_entry(array, path):
    """Tidying up while others put entries into the folder."""
    array.append(entry(0))
    lock = FileLock(path)
    assert lock.try_acquire()
    done = threading.Event()

    def tidy():
        while not done.is_set():
            array._waiting.tidy()
            for name in array._waiting.names():
                (array._waiting.folder / name).rename(path.parent / name)

    other = threading.Thread(target=tidy)
    other.start()
    for number in range(500):
        assert array.append(entry(number)) is False
    done.set()
    other.join()
    lock.release()
    assert len([*path.parent.glob("*.json"), *array.waiting()]) == 501


@pytest.mark.parametrize("rotates", [False, True])
def test_a_holder_that_died_after_its_write_adds_nothing_twice(path, monkeypatch, rotates):
    """What it took is in the array already, a rotated one too: the next holder removes it and adds it no more."""
    array = ArrayFile(path, max_bytes=1 if rotates else MAX_BYTES)
    array.append(entry(1))
    lock = FileLock(path)
    assert lock.try_acquire()
    array.append(entry(2))
    array.append(entry(3))
    lock.release()
    with monkeypatch.context() as dies:  # between the write and what follows it
        dies.setattr("otel_agent_telemetry.capture.waiting.WaitingEntries._remove", _die)
        with pytest.raises(KeyboardInterrupt):
            array.append(entry(4))

    again = ArrayFile(path, max_bytes=MAX_BYTES)
    again.append(entry(5))

    assert [item["n"] for item in newest_first(path)] == [5, 4, 3, 2, 1]
    assert again.waiting() == []


def _die(*_):
    raise KeyboardInterrupt


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
    assert array.set_aside is None


def test_a_folder_in_the_files_place_is_an_error(array, path):
    """It is told, not removed."""
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
