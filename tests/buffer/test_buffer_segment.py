from __future__ import annotations

import os
import tracemalloc

import pytest

from otel_agent_telemetry.append import AppendFile
from otel_agent_telemetry.buffer.identity import WriterIdentity
from otel_agent_telemetry.buffer.segment import SegmentFile, read_segment
from otel_agent_telemetry.wire import encode_line

IDENTITY = WriterIdentity.of_this_process(1_760_000_000 * 10**9)


def line(seq, **more):
    return encode_line("run", {"writer": IDENTITY.writer, "seq": seq, **more})


def kinds(path, **how):
    return [record["record_type"] for read in read_segment(path, **how) for record in read.records]


def seqs(path, **how):
    return [record.get("seq") for read in read_segment(path, **how) for record in read.records]


@pytest.fixture
def segment(tmp_path):
    return SegmentFile(tmp_path, IDENTITY, 0)


def test_segment_begins_with_its_owner(segment):
    """The first line names format, number, writer, host, process and boot."""
    (header,) = (read.records[0] for read in read_segment(segment.path))

    assert header["record_type"] == "segment"
    assert (header["format"], header["number"]) == (1, 0)
    assert {name: header[name] for name in ("writer", "host", "pid", "boot_id", "started")} == {
        "writer": IDENTITY.writer,
        "host": IDENTITY.host,
        "pid": os.getpid(),
        "boot_id": IDENTITY.boot_id,
        "started": "2025-10-09T08:53:20.000000+00:00",
    }


def test_seal_is_the_last_line(tmp_path):
    """A thread that keeps a full segment writes before the seal, never behind it."""
    one = SegmentFile(tmp_path, IDENTITY, 3)
    path, another = one.path, one
    one.write(line(1))
    del one
    another.write(line(2))
    assert kinds(path) == ["segment", "run", "run"]
    del another

    assert kinds(path) == ["segment", "run", "run", "sealed"]


def test_abandoned_segment_is_left_without_a_trace(tmp_path):
    """What a forked child lets go of stays as its parent left it."""
    one = SegmentFile(tmp_path, IDENTITY, 0)
    path = one.path
    one.abandon()
    del one

    assert kinds(path) == ["segment"]


def test_tail_without_lf_waits_while_the_writer_lives(segment):
    """A line that is being written is not believed, not even skipped; `ends_at` stops before it."""
    segment.write(line(1))
    with segment.path.open("ab") as out:
        out.write(line(2)[:-1])

    read = list(read_segment(segment.path))

    assert [record.get("seq") for found in read for record in found.records] == [None, 1]
    assert read[-1].ends_at == segment.size
    assert seqs(segment.path, to_the_end=True) == [None, 1, 2]


@pytest.mark.parametrize("cut", [1, 10, 17, 40])
def test_tail_cut_mid_line_is_torn_once_the_writer_is_gone(segment, cut):
    """A power cut leaves a head: it holds no record, is told as torn, and the file is read to its end."""
    segment.write(line(1))
    with segment.path.open("ab") as out:
        out.write(line(2)[:cut])

    *_, last = read_segment(segment.path, to_the_end=True)

    assert (last.records, last.torn, last.ends_at) == ((), True, segment.path.stat().st_size)


def test_reading_on_from_where_one_stopped(segment):
    """Offsets come from `ends_at`; what is appended later is found there."""
    segment.write(line(1))
    *_, last = read_segment(segment.path)
    segment.write(line(2))

    assert seqs(segment.path, offset=last.ends_at) == [2]


def test_binary_noise_spoils_only_itself(segment):
    """Zeros of a file system that lost its data, and random bytes, between good lines."""
    segment.write(line(1))
    segment.write(b"\x00" * 4096 + b"\n" + bytes(range(256)))
    segment.write(line(2))

    assert seqs(segment.path) == [None, 1, 2]
    assert sum(read.torn for read in read_segment(segment.path)) >= 1


def test_huge_line_without_lf_is_passed_over_in_bounded_memory(segment):
    """A sparse 400 MB hole in a segment of a live writer neither blocks it nor fills the memory."""
    segment.write(line(1))
    with segment.path.open("r+b") as out:
        out.truncate(400 << 20)
    segment.write(b"\n" + line(2))
    tracemalloc.start()

    found = seqs(segment.path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert found == [None, 1, 2]
    assert peak < 400 << 20


def test_missing_file_has_no_lines(tmp_path):
    """It was delivered and removed by someone else: nothing to do, nothing to raise."""
    assert list(read_segment(tmp_path / "gone")) == []


def test_the_write_of_a_segment_is_that_of_any_file_with_code_of_its_own():
    """The interpreter adapts code to one class; the journal's file is written to by turns with a segment."""
    assert SegmentFile.write.__code__ is not AppendFile.write.__code__
    assert SegmentFile.write.__code__ == AppendFile.write.__code__
