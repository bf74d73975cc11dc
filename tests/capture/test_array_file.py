"""A JSON array file that grows by appending: whatever was there, whatever cut it short."""

from __future__ import annotations

import json
import resource
import stat
import tempfile
from pathlib import Path

import pytest
from array_cases import MAX_BYTES, entry, numbers
from hypothesis import given
from hypothesis import strategies as st
from on_disk import Process

from otel_agent_telemetry.capture.array_file import ArrayFile
from otel_agent_telemetry.capture.array_reader import newest_first, rotated
from otel_agent_telemetry.testing import ManualClock


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
