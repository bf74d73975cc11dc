from __future__ import annotations

import pytest

from otel_agent_telemetry.buffer.layout import (
    ack_path,
    list_writers,
    read_acknowledged,
    segment_path,
    still_unconfirmed,
    unconfirmed_bytes,
    undelivered,
    write_acknowledged,
)

WRITER = "20260101T000000-1-0123abcd"


@pytest.fixture
def segment(tmp_path):
    path = segment_path(tmp_path, WRITER, 0)
    path.write_bytes(b"x" * 500)
    return path


def test_ack_is_read_back(segment):
    """The number of confirmed bytes, rewritten in place."""
    for size in (0, 7, 500, 3):
        write_acknowledged(segment, size)
        assert read_acknowledged(segment) == size


def test_no_ack_means_nothing_is_confirmed(segment):
    """A segment nobody has delivered."""
    assert read_acknowledged(segment) == 0


@pytest.mark.parametrize("content", [b"", b"\n", b"\x00" * 21, b"garbage", b"-5\n", b"12x", b"\xff\xfe", b"99999999\n"])
def test_corrupted_ack_counts_as_nothing_confirmed(segment, content):
    """Delivering again is harmless; skipping or removing records that nobody has would not be.

    That includes an ack beyond the segment's end, which a power cut can leave.
    """
    ack_path(segment).write_bytes(content)

    assert read_acknowledged(segment) == 0
    assert undelivered(segment.parent) == {segment: 500}


def test_undelivered_segments(tmp_path, segment):
    """Size of each segment that is not confirmed to its end, of one writer or of all."""
    other = segment_path(tmp_path, "20260101T000000-2-0123abcd", 4)
    other.write_bytes(b"y" * 9)
    write_acknowledged(segment, 499)
    assert undelivered(tmp_path) == {segment: 500, other: 9}
    assert undelivered(tmp_path, WRITER) == {segment: 500}

    write_acknowledged(segment, 500)
    write_acknowledged(other, 9)
    assert undelivered(tmp_path) == {}
    assert undelivered(tmp_path / "none") == {}


def test_strangers_in_the_folder_are_left_alone(tmp_path, segment):
    """Only names of our own form are ours."""
    for name in ("notes.jsonl", f"{WRITER}-1.jsonl", f"{WRITER}-000001.jsonl.bak", "x.lock", "rejected"):
        (tmp_path / name).write_bytes(b"")

    assert [files.writer for files in list_writers(tmp_path)] == [WRITER]


def test_unconfirmed_bytes_are_what_is_behind_the_ack(segment):
    """A segment that was removed was confirmed."""
    waiting = {segment: 500, segment.with_name("removed.jsonl"): 70}
    write_acknowledged(segment, 120)
    assert unconfirmed_bytes(waiting) == 380
    assert still_unconfirmed(waiting) == {segment: 500}
    write_acknowledged(segment, 500)
    assert (unconfirmed_bytes(waiting), still_unconfirmed(waiting)) == (0, {})
