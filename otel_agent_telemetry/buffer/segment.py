"""A buffer segment: the run states of one writer, written ahead of their delivery.

Lines as `wire` specifies. The first says whose segment it is, the last that no more follows:

    header  = {"record_type":"segment","format":1,"number":n,"writer":…,"host":…,"pid":…,
               "boot_id":…,"started":…,"directory":…}
    body    = `run` lines, and `event` lines of type `agent.run.commit`
    sealed  = {"record_type":"sealed","writer":…}

Only its owner writes a segment, and only while it holds `{writer}.lock`. A segment without
a sealed line is either being written or was left by a process that died; which of the two,
the lock tells. A torn tail reads as `wire` specifies. Power loss may take what was written
after the last sync, at most a second's worth.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from otel_agent_telemetry.append import AppendFile, own_code
from otel_agent_telemetry.buffer.identity import WriterIdentity
from otel_agent_telemetry.buffer.layout import segment_path
from otel_agent_telemetry.journal import JournalPart, parts_of
from otel_agent_telemetry.trusted_files import open_to_read
from otel_agent_telemetry.wire import Line, encode_line, read_line

SEGMENT: Final = "segment"
SEALED: Final = "sealed"
FORMAT: Final = 1
_READ_BYTES: Final = 1 << 20
_MAX_LINE: Final = 128 << 20


class SegmentFile(AppendFile):
    """The segment being written. It seals itself when the last thread that could write lets go."""

    __slots__ = ("_writer", "number")
    write = own_code(AppendFile.write)

    def __init__(self, folder: Path, identity: WriterIdentity, number: int, *, resumed: bool = False) -> None:
        """Begin segment `number`, or open it again to go on in it."""
        self._writer = ""
        super().__init__(segment_path(folder, identity.writer, number))
        self.number = number
        if not resumed:
            self.write(encode_line(SEGMENT, {"format": FORMAT, "number": number, **identity._asdict()}))
        self._writer = identity.writer

    def abandon(self) -> None:
        """Let go without sealing: what a forked child does with its parent's segment."""
        self._writer = ""

    def __del__(self) -> None:
        # The last reference goes when the last thread has written: a line after "sealed" is not possible.
        if getattr(self, "_writer", ""):  # missing where the constructor never ran
            with contextlib.suppress(OSError):
                self.write(encode_line(SEALED, {"writer": self._writer}))
        super().__del__()


class SegmentLine(NamedTuple):
    """One physical line of a segment: its records, where it ends, and whether it was torn."""

    records: tuple[Line, ...]
    ends_at: int
    torn: bool


def read_segment_parts(path: Path, *, offset: int = 0, end: int | None = None) -> Iterator[JournalPart]:
    """Yield the lines of a segment from a byte offset on, some thousand at a time: far cheaper than one by one.

    With `end`, only lines that end, with their LF, before that byte; else a tail without LF
    too, as a writer that is gone may have left it. A missing file has no lines. Raises OSError
    when it cannot be read.
    """
    try:
        stream = open_to_read(path, buffering=0)
    except FileNotFoundError:
        return
    with stream:
        stream.seek(offset)
        yield from parts_of(stream, size=None if end is None else end - offset)


def read_segment(path: Path, *, offset: int = 0, to_the_end: bool = False) -> Iterator[SegmentLine]:
    """Yield the whole lines of a segment from a byte offset on, in bounded memory.

    A tail without LF is left for later, unless `to_the_end` says that its writer is gone.
    A missing file has no lines. Raises OSError when it cannot be read.
    """
    try:
        stream = open_to_read(path, buffering=_READ_BYTES)
    except FileNotFoundError:
        return
    with stream:
        stream.seek(offset)
        at = offset
        while raw := stream.readline(_MAX_LINE):
            # A line longer than any that we write is damage, and read on as torn: waiting for its LF would wait for
            # ever.
            if not raw.endswith(b"\n") and not to_the_end and len(raw) < _MAX_LINE:
                return
            at += len(raw)
            records, torn = read_line(raw)
            yield SegmentLine(records, at, torn)
