from __future__ import annotations

import threading

import pytest

from otel_agent_telemetry.clock import parse_iso
from otel_agent_telemetry.journal import Journal, journal_path
from otel_agent_telemetry.testing import ManualClock

MIDNIGHT = parse_iso("2026-01-02T00:00:00Z")
DAY_S = 86_400


@pytest.fixture
def clock():
    return ManualClock(MIDNIGHT - 1)


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "raw")


def lines_of(journal, day):
    path = journal_path(journal.folder, day)
    return path.read_text().split() if path.exists() else None


def test_nothing_is_opened_before_the_first_line(journal):
    """A process that records nothing leaves nothing."""
    journal.sync()

    assert not journal.folder.exists()


def test_each_utc_day_has_its_file(journal, clock):
    """The last nanosecond of a day goes to its file, the next one to the next file."""
    journal.append(b"last\n", now_ns=clock.now_ns())
    clock.jump(MIDNIGHT)
    journal.append(b"first\n", now_ns=clock.now_ns())

    assert lines_of(journal, "20260101") == ["last"]
    assert lines_of(journal, "20260102") == ["first"]


def test_clock_going_backwards_writes_to_the_earlier_day(journal, clock):
    """Lines go to the day that the clock shows; none is lost whichever way it jumps."""
    for seconds in (1, -DAY_S * 40, DAY_S * 400, 0):
        clock.jump(MIDNIGHT + seconds * 1_000_000_000)
        journal.append(f"{seconds}\n".encode(), now_ns=clock.now_ns())

    assert lines_of(journal, "20260102") == ["1", "0"]
    assert lines_of(journal, "20251123") == [str(-DAY_S * 40)]
    assert lines_of(journal, "20270206") == [str(DAY_S * 400)]


def test_instants_before_1970_have_a_day_too(journal):
    """A machine without a battery starts in the past; its lines are kept."""
    journal.append(b"early\n", now_ns=-1)

    assert lines_of(journal, "19691231") == ["early"]


def test_removed_file_is_made_anew_at_the_next_sync(journal):
    """Someone removes the file under us: after the next sync lines are in a file again."""
    journal.append(b"one\n", now_ns=MIDNIGHT)
    journal_path(journal.folder, "20260102").unlink()

    journal.sync()
    journal.append(b"two\n", now_ns=MIDNIGHT)

    assert lines_of(journal, "20260102") == ["two"]


def test_rotated_file_keeps_what_it_has(journal):
    """Log rotation renames the file: old lines stay in it, new ones go to a new file."""
    journal.append(b"one\n", now_ns=MIDNIGHT)
    path = journal_path(journal.folder, "20260102")
    path.rename(path.with_suffix(".old"))

    journal.sync()
    journal.append(b"two\n", now_ns=MIDNIGHT)

    assert path.with_suffix(".old").read_text() == "one\n"
    assert path.read_text() == "two\n"


def test_removed_folder_is_made_anew(journal):
    """Even the folder may go; only what was in it is gone."""
    journal.append(b"one\n", now_ns=MIDNIGHT)
    journal_path(journal.folder, "20260102").unlink()
    journal.folder.rmdir()

    journal.sync()
    journal.append(b"two\n", now_ns=MIDNIGHT)

    assert lines_of(journal, "20260102") == ["two"]


def test_file_in_the_place_of_the_folder_is_an_error_until_it_is_gone(journal):
    """`append` raises OSError and works again by itself afterwards."""
    journal.folder.write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        journal.append(b"one\n", now_ns=MIDNIGHT)

    journal.folder.unlink()
    journal.append(b"two\n", now_ns=MIDNIGHT)

    assert lines_of(journal, "20260102") == ["two"]


def test_folder_in_the_place_of_the_file_spares_the_other_days(journal):
    """Only the day whose file cannot be made fails."""
    journal_path(journal.folder, "20260102").mkdir(parents=True)

    with pytest.raises(IsADirectoryError):
        journal.append(b"one\n", now_ns=MIDNIGHT)
    journal.append(b"two\n", now_ns=MIDNIGHT - 1)

    assert lines_of(journal, "20260101") == ["two"]


def test_threads_at_midnight_lose_nothing(journal):
    """Eight threads on both sides of midnight: each line is in the file of its instant, once."""

    def write(thread):
        for n in range(100):
            journal.append(f"{thread}-{n}\n".encode(), now_ns=MIDNIGHT + (-1 if (thread + n) % 2 else 0))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.sync()

    before, after = lines_of(journal, "20260101"), lines_of(journal, "20260102")
    assert sorted(before) == sorted(f"{t}-{n}" for t in range(8) for n in range(100) if (t + n) % 2)
    assert len(after) == len(set(after)) == 400


def test_files_of_other_days_are_let_go(journal):
    """After two syncs a past day's file is open no longer."""
    for day in range(10):
        journal.append(b"x\n", now_ns=MIDNIGHT + day * DAY_S * 1_000_000_000)
        journal.sync()
        journal.sync()

    assert len(journal._retired) == 0
