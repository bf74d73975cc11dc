"""The journal's day files: writing them, and reading whatever stands in them."""

from __future__ import annotations

import gzip
import os
import tempfile
import threading
import tracemalloc
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as some

from otel_agent_telemetry import journal as journal_module
from otel_agent_telemetry.clock import parse_iso
from otel_agent_telemetry.journal import (
    Journal,
    day_of_file,
    journal_files,
    journal_path,
    lines_of_run,
    read_journal,
    read_parts,
    time_of,
)
from otel_agent_telemetry.testing import ManualClock
from otel_agent_telemetry.wire import encode_line

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


# Reading


def line(seq, **more):
    return encode_line("event", {"writer": "w", "seq": seq, "event_id": "e", **more})


@pytest.fixture
def day(tmp_path):
    """Writes a day file of given bytes."""

    def write(content, name="20260101"):
        path = tmp_path / f"events_{name}.ndjson"
        path.write_bytes(content)
        return path

    return write


def seqs(path, **how):
    by_line = [record["seq"] for line in read_journal(path, **how) for record in line.records]
    assert [record["seq"] for part in read_parts(path, **how) for record in part.records] == by_line
    return by_line


def test_days_are_found_in_order_and_strangers_left_alone(tmp_path, day):
    """Only `events_{YYYYMMDD}.ndjson` counts, oldest first, within the days asked for."""
    for name in ("20260103", "20260101", "20260102", "2026010", "20260102.gz"):
        day(b"", name)
    (tmp_path / "notes.txt").write_text("")

    names = [path.name[7:15] for path in journal_files(tmp_path)]

    assert names == ["20260101", "20260102", "20260103"]
    assert [p.name[7:15] for p in journal_files(tmp_path, first_day="20260102", last_day="20260102")] == ["20260102"]


def test_no_folder_has_no_files(tmp_path):
    """A missing journal is an empty one."""
    assert journal_files(tmp_path / "none") == []


def test_last_line_without_lf_is_read_when_it_is_whole(day):
    """A power cut may take the LF alone."""
    assert seqs(day(line(1) + line(2)[:-1])) == [1, 2]


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_line_cut_anywhere_spoils_no_other(day, cut):
    """A head of any length followed by a whole line: the head is torn, the rest is read."""
    head = line(2, payload="x" * 40)[:cut]

    lines = list(read_journal(day(line(1) + head + line(3) + line(4))))

    assert [record["seq"] for found in lines for record in found.records] == [1, 3, 4]
    assert [found.torn for found in lines] == [False, cut > 0, False]
    assert [(len(part.records), part.torn) for part in read_parts(day(line(1) + head + line(3) + line(4)))] == [
        (3, cut > 0)
    ]


def test_binary_noise_is_torn_and_counted_by_size(day):
    """Bytes that are no line are told as torn; sizes add up to the file."""
    noise = bytes(range(256)) * 20
    path = day(line(1) + noise + b"\n" + b"\n" + line(2))

    lines = list(read_journal(path))

    assert [record["seq"] for found in lines for record in found.records] == [1, 2]
    assert any(found.torn for found in lines)
    assert sum(found.size for found in lines) == path.stat().st_size
    (part,) = read_parts(path)
    assert part == ([record for found in lines for record in found.records], path.stat().st_size, 21)


@given(
    some.lists(
        some.tuples(some.sampled_from(["whole", "head", "noise", "wide", "empty"]), some.integers(0, 90)), max_size=12
    ),
    some.integers(1, 200),
    some.booleans(),
)
def test_parts_hold_what_the_lines_hold(pieces, block, ends_with_lf):
    """Whatever stands between whole lines, and wherever a block of bytes ends."""
    content = b"".join(_piece(kind, number) for kind, number in pieces) + (b"\n" if ends_with_lf else b"")
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        path = Path(folder, "events_20260101.ndjson")
        path.write_bytes(content)
        patched.setattr(journal_module, "_BLOCK", block)
        for containing in ("", '"run_id":"7'):
            parts, lines = (
                list(read_parts(path, containing=containing)),
                list(read_journal(path, containing=containing)),
            )
            assert [record for part in parts for record in part.records] == [r for one in lines for r in one.records]
            assert sum(part.torn for part in parts) == sum(one.torn for one in lines)
        whole = content.rfind(b"\n") + 1
        assert sum(part.size for part in read_parts(path)) == len(content)
        assert sum(part.size for part in read_parts(path, end=len(content))) == whole


def _piece(kind, number):
    whole = encode_line("run", {"writer": "w", "seq": number + 1, "run_id": f"{number}", "n": 1})
    pieces = {"whole": whole, "head": whole[:number], "noise": b"\x00" * number + b"\n", "empty": b"\n"}
    return pieces.get(kind) or encode_line("run", {"writer": "w", "seq": number + 1, "n": 2**80})


def test_huge_line_without_lf_is_read_in_bounded_memory(day):
    """500 MB without LF cost no more memory than a few chunks, and the next line is found."""
    path = day(b"")
    with path.open("wb") as out:
        out.truncate(500 << 20)
        out.seek(0, os.SEEK_END)
        out.write(b"\n" + line(7))
    tracemalloc.start()

    found = seqs(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert found == [7]
    assert peak < 450 << 20


def test_only_lines_containing_a_text(day):
    """`containing` filters by bytes before anything is parsed."""
    path = day(line(1, run_id="one") + line(2, run_id="two") + b"noise two\n")

    assert seqs(path, containing='"two"') == [2]


def test_reading_on_from_an_offset(day):
    """What was read before is not read again; `size` tells where to go on."""
    path = day(line(1) + line(2))
    first = next(read_journal(path))

    assert seqs(path, offset=first.size) == [2]


def test_lines_of_a_run_over_days(tmp_path, day):
    """Everything about one run, in the order of writing, and nothing that only mentions it."""
    day(line(1, event_id="a") + line(2, event_id="b", payload="a"), "20260101")
    day(line(3, event_id="a"), "20260102")

    assert [found["seq"] for found in lines_of_run(tmp_path, event_id="a")] == [1, 3]


def test_time_of_a_line_without_times_is_empty():
    """Lines of another version may tell nothing; values that are no text do not break it."""
    assert time_of({"record_type": "event"}) == ""
    assert time_of({"record_type": "event", "timestamp": None, "updated_at": 5}) == "5"


@settings(max_examples=150, deadline=None)
@given(some.lists(some.one_of(some.integers(0, 99), some.binary(max_size=60)), max_size=12))
def test_whole_lines_are_always_found(tmp_path_factory, pieces):
    """Whatever noise stands between lines (without a line's head in it), each whole line is read."""
    wanted = [piece for piece in pieces if isinstance(piece, int)]
    noise = [line(piece) if isinstance(piece, int) else piece for piece in pieces]
    path = tmp_path_factory.mktemp("noise") / "events_20260101.ndjson"
    path.write_bytes(b"".join(noise))

    assert seqs(path) == wanted


# Compressed days

COMPRESSED = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}


@pytest.mark.parametrize("ending", COMPRESSED)
def test_a_compressed_day_is_read_as_the_file_that_it_was_made_of(tmp_path, day, ending):
    """By lines, by parts, from an offset on, of a run, and beside plain days."""
    plain = day(line(1) + b"torn\n" + line(2) + line(3).rstrip(b"\n"), "20260101")
    content, lines = plain.read_bytes(), list(read_journal(plain))
    archive = plain.with_name(plain.name + ending)
    archive.write_bytes(COMPRESSED[ending](content))
    assert journal_files(tmp_path) == [plain]  # a copy that `zstd` leaves there
    plain.unlink()
    day(line(4), "20260102")

    assert [day_of_file(path) for path in journal_files(tmp_path)] == ["20260101", "20260102"]
    assert list(read_journal(archive)) == lines
    assert seqs(archive) == [1, 2, 3]
    assert seqs(archive, offset=len(line(1))) == [2, 3]
    assert [record["seq"] for record in lines_of_run(tmp_path, event_id="e")] == [1, 2, 3, 4]


def test_an_archive_and_another_file_of_one_day_are_both_read(tmp_path, day):
    """Who compresses today's file has a new one a moment later."""
    day(gzip.compress(line(1)), "20260101").rename(tmp_path / "events_20260101.ndjson.gz")
    day(line(2), "20260101")

    assert [record["seq"] for record in lines_of_run(tmp_path, event_id="e")] == [1, 2]


@pytest.mark.parametrize("ending", COMPRESSED)
def test_an_archive_that_cannot_be_read_on_is_one_torn_line(tmp_path, ending, caplog):
    """What comes before is read, and a warning names the file."""
    path = tmp_path / f"events_20260101.ndjson{ending}"
    path.write_bytes(COMPRESSED[ending](line(1) + line(2))[:-2])

    parts = list(read_parts(path))

    assert sum(part.torn for part in parts) == sum(found.torn for found in read_journal(path)) > 0
    assert f"{path}: ends too early" in caplog.text


def test_a_byte_order_mark_costs_no_line(day):
    """An editor or a conversion may have put it before the first line."""
    path = day(b"\xef\xbb\xbf" + line(1) + line(2))
    assert seqs(path) == [1, 2]
    assert sum(part.torn for part in read_parts(path)) == 0
