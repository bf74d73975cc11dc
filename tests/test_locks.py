"""The file lock, between real processes."""

import gc
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_agent_telemetry.locks import FileLock, is_locked

pytestmark = pytest.mark.requires("POSIX")  # forks and signals

HOLDER = """
import sys
from pathlib import Path
from otel_agent_telemetry.locks import FileLock
lock = FileLock(Path(sys.argv[1]))
print(lock.try_acquire(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.lock"


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that was asked for the lock and has answered; it ends when its stdin closes."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    with process:
        yield process
        if process.poll() is None:
            process.kill()


def test_a_free_lock_is_taken_and_its_file_is_private(path: Path) -> None:
    """The file is made with mode 0600; taking twice is harmless."""
    lock = FileLock(path)
    assert not lock.held
    assert lock.try_acquire()
    assert lock.try_acquire()
    assert lock.held
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    lock.release()


def test_a_second_object_in_the_same_process_does_not_get_it(path: Path) -> None:
    """Each FileLock is a contender, within one process too."""
    one, other = FileLock(path), FileLock(path)
    assert one.try_acquire()
    assert not other.try_acquire()
    one.release()
    assert other.try_acquire()
    other.release()


def test_probing_a_lock_neither_takes_it_nor_makes_its_file(path: Path) -> None:
    """A file that is missing is not locked; after probing, the lock is as it was."""
    assert not is_locked(path)
    assert not path.exists()
    lock = FileLock(path)
    assert lock.try_acquire()
    assert is_locked(path)
    lock.release()
    assert not is_locked(path)
    assert lock.try_acquire()


def test_of_many_threads_one_gets_it(path: Path) -> None:
    """Threads racing for a free lock have one winner."""
    start = threading.Barrier(8)
    locks = [FileLock(path) for _ in range(8)]

    def race(lock: FileLock) -> None:
        start.wait()
        lock.try_acquire()

    threads = [threading.Thread(target=race, args=(lock,)) for lock in locks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(lock.held for lock in locks) == 1
    for lock in locks:
        lock.release()


def test_another_process_keeps_us_out_until_it_ends(path: Path, holder: subprocess.Popen[str]) -> None:
    """The lock excludes between processes, and an orderly end frees it."""
    lock = FileLock(path)
    assert not lock.try_acquire()
    holder.communicate()
    assert lock.try_acquire()
    lock.release()


def test_a_killed_holder_holds_nothing(path: Path, holder: subprocess.Popen[str]) -> None:
    """SIGKILL releases the lock; nothing is cleaned up by hand."""
    lock = FileLock(path)
    assert not lock.try_acquire()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert lock.try_acquire()
    lock.release()


def _fork_child_that_waits(lock: FileLock, *, drop: bool) -> tuple[int, int]:
    """A forked child with a copy of the lock's descriptor; `(pid, write end that ends it)`."""
    ready_read, ready_write = os.pipe()
    end_read, end_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(end_write)
        if drop:
            lock.close_after_fork()
        os.write(ready_write, b"1" if lock.held else b"0")
        os.read(end_read, 1)
        os._exit(0)
    os.close(end_read)
    os.close(ready_write)
    assert os.read(ready_read, 1) == b"0"
    os.close(ready_read)
    return pid, end_write


@pytest.mark.parametrize("drop", [True, False], ids=["asked to", "by itself"])
def test_a_forked_child_does_not_keep_the_lock_alive(path: Path, *, drop: bool) -> None:
    """The child drops its copy as it starts, and again when told: the lock dies with its parent."""
    lock, other = FileLock(path), FileLock(path)
    assert lock.try_acquire()
    child, end = _fork_child_that_waits(lock, drop=drop)
    assert not other.try_acquire()
    os.close(lock._fd)  # what the kernel does when the parent dies
    lock._fd = -1
    assert other.try_acquire()
    os.close(end)
    os.waitpid(child, 0)
    other.release()


def test_a_lock_that_nobody_refers_to_is_released(path: Path) -> None:
    """Losing the object loses the lock."""
    lock = FileLock(path)
    assert lock.try_acquire()
    del lock
    gc.collect()
    other = FileLock(path)
    assert other.try_acquire()
    other.release()


def test_a_lock_knows_when_its_file_was_taken_away(path: Path) -> None:
    """taken_away is true without the lock, and when the file was removed or replaced."""
    lock = FileLock(path)
    assert lock.taken_away()
    lock.try_acquire()
    assert not lock.taken_away()
    path.unlink()
    assert lock.taken_away()
    path.touch()
    assert lock.taken_away()
    lock.release()


def test_dropping_in_the_child_leaves_the_parents_lock(path: Path) -> None:
    """A child that drops its copy takes nothing from its parent."""
    lock = FileLock(path)
    assert lock.try_acquire()
    child, end = _fork_child_that_waits(lock, drop=True)
    os.close(end)
    os.waitpid(child, 0)
    assert lock.held
    assert not FileLock(path).try_acquire()
    lock.release()


def test_a_started_program_inherits_no_lock(path: Path) -> None:
    """A subprocess of the holder does not keep the lock alive."""
    lock, other = FileLock(path), FileLock(path)
    assert lock.try_acquire()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False) as child:
        lock.release()
        assert other.try_acquire()
        child.communicate()
    other.release()


def test_content_survives_release_and_being_taken_again(path: Path) -> None:
    """Taking the lock never truncates the file: who held it last can be read."""
    lock = FileLock(path)
    lock.try_acquire()
    lock.write(b"pid 1")
    assert path.read_bytes() == b"pid 1"
    lock.release()
    assert path.read_bytes() == b"pid 1"
    again = FileLock(path)
    assert again.try_acquire()
    assert path.read_bytes() == b"pid 1"
    assert not FileLock(path).try_acquire()
    assert path.read_bytes() == b"pid 1"
    again.release()


def test_writing_replaces_the_whole_content(path: Path) -> None:
    """A shorter content leaves nothing of the longer one."""
    lock = FileLock(path)
    lock.try_acquire()
    lock.write(b"a long first content")
    lock.write(b"short")
    assert path.read_bytes() == b"short"
    lock.release()


def test_reading_the_file_does_not_release_the_lock(path: Path) -> None:
    """Opening and closing the file elsewhere in the process changes nothing."""
    lock = FileLock(path)
    lock.try_acquire()
    path.read_bytes()
    assert not FileLock(path).try_acquire()
    lock.release()


def test_touch_is_a_sign_of_life(path: Path) -> None:
    """Touching moves the file's modification time to now."""
    lock = FileLock(path)
    lock.try_acquire()
    os.utime(path, (1000, 1000))
    lock.touch()
    assert path.stat().st_mtime > 1_000_000
    lock.release()


def test_releasing_twice_is_harmless_and_can_remove_the_file(path: Path) -> None:
    """Releasing is idempotent; `unlink` removes the file first, and a later lock makes a new one."""
    lock = FileLock(path)
    lock.release()
    lock.try_acquire()
    lock.release(unlink=True)
    lock.release(unlink=True)
    assert not path.exists()
    assert lock.try_acquire()
    path.unlink()
    lock.release(unlink=True)


def test_a_lock_on_a_removed_file_is_no_lock(path: Path) -> None:
    """Who locks the old file does not think to hold the new one of the same name."""
    old = FileLock(path)
    old.try_acquire()
    path.unlink()
    fresh = FileLock(path)
    assert fresh.try_acquire()
    assert not FileLock(path).try_acquire()
    old.release()
    fresh.release()


def test_a_release_that_cannot_remove_the_file_still_releases(path: Path) -> None:
    """The lock is given up although the unlink fails."""
    lock = FileLock(path)
    lock.try_acquire()
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError):
        lock.release(unlink=True)
    assert not lock.held


def test_a_file_that_cannot_be_opened_is_an_os_error(tmp_path: Path) -> None:
    """A missing folder, and a symbolic link in the lock's place, raise."""
    with pytest.raises(FileNotFoundError):
        FileLock(tmp_path / "missing" / "x.lock").try_acquire()
    link = tmp_path / "link.lock"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        FileLock(link).try_acquire()
    assert not (tmp_path / "elsewhere").exists()


def _open_files() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def test_failed_attempts_leave_no_open_file(path: Path) -> None:
    """A contender that loses closes what it opened."""
    lock = FileLock(path)
    lock.try_acquire()
    before = _open_files()
    for _ in range(50):
        assert not FileLock(path).try_acquire()
    after = _open_files()
    assert after == before
    lock.release()
