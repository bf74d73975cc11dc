from __future__ import annotations

import os
import stat
import threading

import pytest
from on_disk import Process, run_python

from otel_agent_telemetry.append import AppendFile, sync_dir, sync_file, write_whole
from otel_agent_telemetry.wire import encode_line, read_line


def test_write_is_on_disk_when_it_returns(tmp_path):
    """No flush is needed: another reader sees the line at once."""
    file = AppendFile(tmp_path / "deep" / "er" / "lines")

    file.write(b"one\n")
    file.write(b"two\n")

    assert (tmp_path / "deep/er/lines").read_bytes() == b"one\ntwo\n"
    assert file.size == 8


def test_folders_and_files_are_private(tmp_path):
    """New folders are 0700 and new files 0600, whatever the umask allows."""
    before = os.umask(0)
    try:
        AppendFile(tmp_path / "a" / "b" / "lines")
    finally:
        os.umask(before)

    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b", "a/b/lines")]
    assert modes == [0o700, 0o700, 0o600]


def test_what_is_there_is_kept(tmp_path):
    """An existing file is appended to, and its size counts."""
    (tmp_path / "lines").write_bytes(b"old\n")

    file = AppendFile(tmp_path / "lines")
    file.write(b"new\n")

    assert (tmp_path / "lines").read_bytes() == b"old\nnew\n"
    assert file.size == 8


def test_threads_do_not_interleave(tmp_path):
    """Ten threads with lines past a page: every line is whole and none is missing."""
    file = AppendFile(tmp_path / "lines")
    lines = [[f"{thread}-{n}-".encode() + b"x" * 9000 + b"\n" for n in range(40)] for thread in range(10)]
    threads = [threading.Thread(target=lambda mine=mine: [file.write(line) for line in mine]) for mine in lines]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    written = (tmp_path / "lines").read_bytes().splitlines(keepends=True)
    assert sorted(written) == sorted(line for mine in lines for line in mine)


@pytest.mark.durability
def test_processes_do_not_interleave(tmp_path):
    """Four processes append to one file: every line is whole, in the order of its writer."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from otel_agent_telemetry.append import AppendFile\n"
        "file = AppendFile(Path(sys.argv[1]))\n"
        "sys.stdin.readline()\n"
        "for n in range(300):\n"
        "    file.write(f'{sys.argv[2]} {n} '.encode() + b'x' * 5000 + b'\\n')\n"
    )
    processes = [Process(code, tmp_path / "lines", name) for name in "abcd"]
    for process in processes:
        process.tell()
    assert [process.end()[0] for process in processes] == [0] * 4

    numbers = {name: [] for name in "abcd"}
    for line in (tmp_path / "lines").read_text().splitlines():
        name, number, filling = line.split(" ")
        assert filling == "x" * 5000
        numbers[name].append(int(number))
    assert all(seen == list(range(300)) for seen in numbers.values())


SHORT_WRITE = """
import resource, signal, sys
from pathlib import Path
from otel_agent_telemetry.append import AppendFile
from otel_agent_telemetry.wire import encode_line
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
file = AppendFile(Path(sys.argv[1]))
file.write(encode_line("event", {"seq": 1}))
resource.setrlimit(resource.RLIMIT_FSIZE, (file.size + 100, resource.RLIM_INFINITY))
for n in (2, 3):
    try:
        file.write(encode_line("event", {"seq": n, "payload": "x" * 200}))
    except OSError as problem:
        print(n, problem.errno)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
file.write(encode_line("event", {"seq": 4}))
file.write(encode_line("event", {"seq": 5}))
"""


@pytest.mark.durability
def test_short_write_is_an_error_and_spoils_no_other_line(tmp_path):
    """A line cut at the size limit raises; the lines before and behind it are whole."""
    out = run_python(SHORT_WRITE, tmp_path / "lines")

    assert out.split() == ["2", "28", "3", "27"]  # ENOSPC for the cut line, the system's EFBIG behind it
    read = [read_line(raw) for raw in (tmp_path / "lines").read_bytes().splitlines(keepends=True)]
    assert [record["seq"] for line in read for record in line.records] == [1, 4, 5]
    assert [line.torn for line in read] == [False, True, False, False]


@pytest.mark.durability
def test_full_disk_raises_and_recovers(small_disk):
    """On a full file system a write raises ENOSPC; once there is room the next line is whole."""
    ballast = small_disk / "ballast"
    file = AppendFile(small_disk / "lines")
    file.write(encode_line("event", {"seq": 1}))
    with (
        pytest.raises(OSError, match=r"(?i)space|bytes could be written"),
        ballast.open("wb", buffering=0) as rest,
    ):
        while True:
            assert rest.write(b"x" * 4096)
            file.write(encode_line("event", {"seq": 2, "payload": "y" * 5000}))

    ballast.unlink()
    file.write(encode_line("event", {"seq": 3}))

    raws = (small_disk / "lines").read_bytes().splitlines(keepends=True)
    seen = [record["seq"] for raw in raws for record in read_line(raw).records]
    assert (seen[0], seen[-1]) == (1, 3)
    assert set(seen) <= {1, 2, 3}


def test_sync_runs_only_when_something_was_written(tmp_path):
    """`dirty` says whether there is anything to force to the disk."""
    file = AppendFile(tmp_path / "lines")
    assert file.dirty
    file.sync()
    assert not file.dirty
    file.write(b"one\n")
    assert file.dirty


@pytest.mark.parametrize("change", ["removed", "renamed", "replaced"])
def test_replaced_tells_that_the_path_leads_elsewhere(tmp_path, change):
    """A file that someone removed, rotated or replaced is noticed."""
    path = tmp_path / "lines"
    file = AppendFile(path)
    assert not file.replaced()

    if change == "removed":
        path.unlink()
    else:
        path.rename(tmp_path / "lines.1")
    if change == "replaced":
        path.write_bytes(b"")

    assert file.replaced()


def test_a_folder_in_the_place_of_the_file_is_an_error(tmp_path):
    """It raises OSError, nothing else."""
    (tmp_path / "lines").mkdir()

    with pytest.raises(IsADirectoryError):
        AppendFile(tmp_path / "lines")


def test_a_file_in_the_place_of_a_folder_is_an_error(tmp_path):
    """It raises OSError naming the file."""
    (tmp_path / "raw").write_bytes(b"")

    with pytest.raises(NotADirectoryError, match="raw"):
        AppendFile(tmp_path / "raw" / "lines")


def test_a_symbolic_link_is_not_followed(tmp_path):
    """A link planted in a shared folder cannot make us write into someone's file."""
    (tmp_path / "victim").write_bytes(b"")
    (tmp_path / "lines").symlink_to(tmp_path / "victim")

    with pytest.raises(OSError, match="lines"):
        AppendFile(tmp_path / "lines")
    assert (tmp_path / "victim").read_bytes() == b""


def test_descriptor_is_closed_with_the_last_reference(tmp_path):
    """Nothing leaks, also from a constructor that failed."""
    before = len(os.listdir("/proc/self/fd"))
    (tmp_path / "folder").mkdir()
    for number in range(20):
        AppendFile(tmp_path / f"lines{number}").write(b"x\n")
        with pytest.raises(OSError, match="folder"):
            AppendFile(tmp_path / "folder")

    assert len(os.listdir("/proc/self/fd")) == before


def test_bytes_that_do_not_fit_are_an_error_that_counts_them():
    """A write that the kernel cuts short is never taken for a whole one."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        with pytest.raises(OSError, match=r"only \d+ of 9999999 bytes could be written"):
            write_whole(writing, b"x" * 9_999_999)
    finally:
        os.close(reading)
        os.close(writing)


def test_a_file_and_its_folder_can_be_forced_to_the_disk(tmp_path):
    """A missing file is an error, not silence."""
    file = tmp_path / "file"
    file.write_bytes(b"x")
    sync_file(file)
    sync_dir(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync_file(tmp_path / "missing")
