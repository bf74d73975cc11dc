"""Names in the buffer folder, finding them again, and how much of each segment is confirmed.

{buffer}/drain.lock                  held by the one process that delivers; see `delivery.drain_lock`
{buffer}/{writer}.lock               held by a live writer; its identity and counters
{buffer}/{writer}-{n:06d}.jsonl      segment n of that writer: 0, 1, 2 …
{buffer}/{writer}-{n:06d}.jsonl.ack  how many bytes of it the target has confirmed
{buffer}/rejected/{YYYYMMDD}.jsonl   records that the target refused for good
{buffer}/health.json                 counters of writers that are gone, and of deliveries

An `.ack` file holds the number of bytes as 20 decimal digits and LF, rewritten in place. It is
not forced to disk: an ack that is lost or too small only means that records are delivered
again, which changes nothing (invariant 2). Anything unreadable counts as 0, and so does an
ack beyond the segment's end: after a power cut a file may be shorter than it once was.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from otel_agent_telemetry.patterns import lazy
from otel_agent_telemetry.trusted_files import open_file, read_bytes, trusted_names

_SEGMENT: Final = lazy(r"(?P<writer>\d{8}T\d{6}-\d+-[0-9a-f]{8})-(?P<number>\d{6,})\.jsonl")
_LOCK: Final = lazy(r"(?P<writer>\d{8}T\d{6}-\d+-[0-9a-f]{8})\.lock")


class WriterFiles(NamedTuple):
    """What lies in the buffer of one writer; `segments` by number, ascending."""

    writer: str
    lock: Path
    segments: tuple[tuple[int, Path], ...]


def segment_path(folder: Path, writer: str, number: int) -> Path:
    """Return the path of segment `number` of a writer."""
    return folder / f"{writer}-{number:06d}.jsonl"


def ack_path(segment: Path) -> Path:
    """Return the path of the file that holds a segment's confirmed length."""
    return segment.with_name(segment.name + ".ack")


def lock_path(folder: Path, writer: str) -> Path:
    """Return the path of the file that a live writer holds locked."""
    return folder / f"{writer}.lock"


def drain_lock_path(folder: Path) -> Path:
    """Return the path of the file that the one deliverer holds locked."""
    return folder / "drain.lock"


def rejected_path(folder: Path, day: str) -> Path:
    """Return the path for the refused records of a UTC day (`YYYYMMDD`)."""
    return folder / "rejected" / f"{day}.jsonl"


def health_path(folder: Path) -> Path:
    """Return the path of the counters that outlive their processes."""
    return folder / "health.json"


def list_writers(folder: Path) -> list[WriterFiles]:
    """Return every writer with a file in the folder, oldest first; empty when there is no folder.

    Raises OSError when the folder cannot be read.

    Reads the names in the folder only; links and what belongs to another user are left out.
    """
    segments: dict[str, list[tuple[int, Path]]] = {}
    try:
        names = trusted_names(folder)
    except FileNotFoundError:
        return []
    for name in names:
        if found := _SEGMENT.fullmatch(name):
            segments.setdefault(found["writer"], []).append((int(found["number"]), folder / name))
        elif found := _LOCK.fullmatch(name):
            segments.setdefault(found["writer"], [])
    return [
        WriterFiles(writer, lock_path(folder, writer), tuple(sorted(segments[writer]))) for writer in sorted(segments)
    ]


_WIDTH = 20


def read_acknowledged(segment: Path) -> int:
    """Return the confirmed bytes of a segment, 0 when none are known. Never raises."""
    try:
        confirmed = int(read_bytes(ack_path(segment))[:_WIDTH])
        return confirmed if 0 <= confirmed <= segment.stat().st_size else 0
    except (OSError, ValueError):
        return 0


def write_acknowledged(segment: Path, size: int) -> None:
    """Note that the target has confirmed the first `size` bytes. Raises OSError."""
    fd = open_file(ack_path(segment), os.O_WRONLY | os.O_CREAT)
    try:
        # Of one fixed width, in place: a reader sees the old number or the new one, and a full disk needs no new block.
        os.write(fd, b"%0*d\n" % (_WIDTH, size))
    finally:
        os.close(fd)


def unconfirmed_bytes(segments: Mapping[Path, int]) -> int:
    """Return how many bytes of these segments (path → size) the target has not confirmed.

    A segment that has been removed was confirmed to its end and counts as 0.
    """
    return sum(max(size - read_acknowledged(path), 0) for path, size in segments.items() if path.exists())


def still_unconfirmed(segments: Mapping[Path, int]) -> dict[Path, int]:
    """Return those of the segments (path → size) that exist and are not confirmed up to that size."""
    return {path: size for path, size in segments.items() if path.exists() and read_acknowledged(path) < size}


def confirm(segment: Path, size: int) -> None:
    """Note that the target has confirmed the first `size` bytes, unless more is noted or the segment is gone.

    A process that was stopped while it delivered may come to this after another has gone on
    for it. Raises OSError.
    """
    # Never smaller: a stopped deliverer that wakes up must not take back what its successor confirmed.
    if segment.exists() and read_acknowledged(segment) < size:
        write_acknowledged(segment, size)


def undelivered(folder: Path, writers: Collection[str] | None = None) -> dict[Path, int]:
    """Return segment → size in bytes, for the segments (of these writers, or of all) not confirmed to their end.

    Raises OSError when the folder cannot be read.
    """
    waiting: dict[Path, int] = {}
    for files in list_writers(folder):
        if writers is not None and files.writer not in writers:
            continue
        for _, segment in files.segments:
            # Between the list and here the deliverer may have confirmed and removed it.
            with contextlib.suppress(FileNotFoundError):
                size = segment.stat().st_size
                if read_acknowledged(segment) < size:
                    waiting[segment] = size
    return waiting
