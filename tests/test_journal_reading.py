from __future__ import annotations

import os
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from otel_agent_telemetry.journal import (
    journal_files,
    last_activity_times,
    lines_of_run,
    read_journal,
    time_of,
)
from otel_agent_telemetry.wire import encode_line


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
    return [record["seq"] for line in read_journal(path, **how) for record in line.records]


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


def test_binary_noise_is_torn_and_counted_by_size(day):
    """Bytes that are no line are told as torn; sizes add up to the file."""
    noise = bytes(range(256)) * 20
    path = day(line(1) + noise + b"\n" + b"\n" + line(2))

    lines = list(read_journal(path))

    assert [record["seq"] for found in lines for record in found.records] == [1, 2]
    assert any(found.torn for found in lines)
    assert sum(found.size for found in lines) == path.stat().st_size


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


def test_last_sign_of_life_is_the_latest_time_of_any_line(tmp_path, day):
    """Of a writer's lines about each run the latest time counts, wherever it stands in a line."""
    day(
        encode_line(
            "run",
            {"writer": "w", "event_id": "a", "start_time": "2026-01-01T00", "updated_at": "2026-01-01T05"},
        )
        + encode_line("event", {"writer": "w", "event_id": "a", "timestamp": "2026-01-01T03"})
        + encode_line("event", {"writer": "other", "event_id": "a", "timestamp": "2026-01-01T09", "payload": "w"})
        + encode_line("span", {"writer": "w", "event_id": "b", "start_time": "2026-01-01T01", "end_time": None})
    )

    signs = last_activity_times(tmp_path, writer="w", first_day="20260101")

    assert signs == {"a": "2026-01-01T05", "b": "2026-01-01T01"}


def test_last_signs_read_the_tail_of_a_huge_day(tmp_path, day):
    """Past `max_bytes` only the end is read: the latest line is there."""
    day(line(1, timestamp="2026-01-01T01") * 100 + line(2, timestamp="2026-01-01T02"))

    assert last_activity_times(tmp_path, writer="w", first_day="", max_bytes=200) == {"e": "2026-01-01T02"}


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
