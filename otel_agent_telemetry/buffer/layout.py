"""Names in the buffer folder, and finding them again.

{buffer}/drain.lock                  held by the one process that delivers; see `delivery.drain_lock`
{buffer}/{writer}.lock               held by a live writer; its identity and counters
{buffer}/{writer}-{n:06d}.jsonl      segment n of that writer: 0, 1, 2 …
{buffer}/{writer}-{n:06d}.jsonl.ack  how many bytes of it the target has confirmed
{buffer}/rejected/{YYYYMMDD}.jsonl   records that the target refused for good
{buffer}/health.json                 counters of writers that are gone, and of deliveries
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

from otel_agent_telemetry.patterns import lazy

_SEGMENT: Final = lazy(r"(?P<writer>\d{8}T\d{6}-\d+-[0-9a-f]{8})-(?P<number>\d{6,})\.jsonl")
_LOCK: Final = lazy(r"(?P<writer>\d{8}T\d{6}-\d+-[0-9a-f]{8})\.lock")


class WriterFiles(NamedTuple):
    """What lies in the buffer of one writer; `segments` by number, ascending."""

    writer: str
    lock: Path
    segments: tuple[tuple[int, Path], ...]


def segment_path(folder: Path, writer: str, number: int) -> Path:
    """Where a segment is kept."""
    return folder / f"{writer}-{number:06d}.jsonl"


def ack_path(segment: Path) -> Path:
    """Where the confirmed length of a segment is kept."""
    return segment.with_name(segment.name + ".ack")


def lock_path(folder: Path, writer: str) -> Path:
    """The file that a live writer holds locked."""
    return folder / f"{writer}.lock"


def drain_lock_path(folder: Path) -> Path:
    """The file that the one deliverer holds locked."""
    return folder / "drain.lock"


def rejected_path(folder: Path, day: str) -> Path:
    """Where refused records of a UTC day go."""
    return folder / "rejected" / f"{day}.jsonl"


def health_path(folder: Path) -> Path:
    """The counters that outlive their processes."""
    return folder / "health.json"


def list_writers(folder: Path) -> list[WriterFiles]:
    """Every writer with a file in the folder, oldest first; empty when there is no folder.

    Raises OSError when the folder cannot be read.
    """
    segments: dict[str, list[tuple[int, Path]]] = {}
    try:
        names = os.listdir(folder)
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
