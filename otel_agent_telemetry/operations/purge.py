"""Overwriting the journal lines of deleted runs on this host, and naming the backups that still hold the runs.

A line is overwritten in place, with a line of the same length that keeps its writer and number and
nothing else: `{"record_type":"event","writer":…,"seq":…,"event_type":"agent.line.purged"   }`. So no
number is missing to `verify`, no reader's position in the file moves, and a process that appends to
the same file is not disturbed. The bytes may survive in the file system: in snapshots, in a log, in
blocks that an SSD has set aside. A compressed day is written anew, with the same lines in their places.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from otel_agent_telemetry.archives import open_archive, replace_archive
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.deletion import DELETED_EVENT, PURGED_EVENT, Deletion
from otel_agent_telemetry.journal import is_compressed, journal_files
from otel_agent_telemetry.storage.database_place import check_database
from otel_agent_telemetry.trusted_files import open_file, open_to_read
from otel_agent_telemetry.wire import EVENT, Line, ReadLine, encode_line, read_line

_MAX_LINE: Final = 128 << 20


@dataclass(slots=True)
class PurgeReport:
    """How many lines were overwritten in how many day files, and the backups that hold one of the runs."""

    lines: int = 0
    files: int = 0
    backups: list[Path] = field(default_factory=list)


def purge(config: TelemetryConfig, receipts: Collection[Deletion]) -> PurgeReport:
    """Overwrite every journal line of these runs, and find the backups that hold them. Blocks. Raises OSError.

    A process that appends to the newest file meanwhile is not disturbed; nothing is shortened or moved.
    """
    report = PurgeReport()
    for path in journal_files(config.ndjson_dir, with_copies=True):
        if purged := _purge_file(path, receipts):
            report.lines += purged
            report.files += 1
    event_ids = [receipt.event_id for receipt in receipts]
    report.backups = [path for path in sorted(config.backups_dir.glob("*.sqlite")) if _holds(path, event_ids)]
    return report


def _purge_file(path: Path, receipts: Collection[Deletion]) -> int:
    """Overwrite the lines of these runs in one file; return how many. Raises OSError."""
    if is_compressed(path):
        return _purge_archive(path, receipts)
    with open_to_read(path) as stream:
        found = list(_lines_of(stream, receipts))
    if not found:
        return 0
    with os.fdopen(open_file(path, os.O_RDWR), "r+b") as file:
        for offset, stub in found:
            file.seek(offset)
            file.write(stub)
        file.flush()
        # On return the old bytes are no longer in the file, whatever happens to the machine.
        os.fsync(file.fileno())
    return len(found)


def _purge_archive(path: Path, receipts: Collection[Deletion]) -> int:
    """Write a compressed day anew without the lines of these runs; return how many. Raises OSError, also for damage."""
    stream, archive = open_archive(path)
    with stream:
        stubs = dict(_lines_of(stream, receipts))
    # Before anything is written: a rewritten archive would lose for good what cannot be read now.
    if archive.damage:
        raise OSError(errno.EIO, f"what it holds of the deleted runs is not known: it {archive.damage}", str(path))
    if stubs:
        stream, _ = open_archive(path)
        with stream:
            replace_archive(path, _with_stubs(stream, stubs))
    return len(stubs)


def _with_stubs(stream: BinaryIO, stubs: Mapping[int, bytes]) -> Iterator[bytes]:
    """Yield the lines of a day, other ones in the place of those that begin at some offsets."""
    at = 0
    while raw := stream.readline(_MAX_LINE):
        yield stubs.get(at, raw)
        at += len(raw)


def _lines_of(stream: BinaryIO, receipts: Collection[Deletion]) -> Iterator[tuple[int, bytes]]:
    """Yield where each line of these runs begins, and what takes its place."""
    event_ids = {receipt.event_id for receipt in receipts}
    run_ids = {receipt.run_id for receipt in receipts}
    needles = [name.encode("utf-8", "replace") for name in (*event_ids, *run_ids)]
    at = 0
    # An incomplete last line may be in the making.
    while (raw := stream.readline(_MAX_LINE)).endswith(b"\n"):
        if any(needle in raw for needle in needles) and _is_of(read_line(raw), event_ids, run_ids):
            yield at, _stub(raw)
        at += len(raw)


def _is_of(line: ReadLine, event_ids: Collection[str], run_ids: Collection[str]) -> bool:
    """Return whether all that a line holds belongs to these runs; their receipts do not."""
    return all(
        record.get("event_type") not in (DELETED_EVENT, PURGED_EVENT)
        and (record["event_id"] in event_ids if record.get("event_id") else record.get("run_id") in run_ids)
        for record in line.records
    )


def _stub(raw: bytes) -> bytes:
    """Return a line of the same length with nothing but the writer and the number; blanks where it does not fit."""
    records = read_line(raw).records
    kept: Line = {name: records[0][name] for name in ("writer", "seq") if name in records[0]} if records else {}
    stub = encode_line(EVENT, {**kept, "event_type": PURGED_EVENT})
    room = len(raw) - len(stub)
    return b" " * (len(raw) - 1) + b"\n" if room < 0 else stub[:-2] + b" " * room + b"}\n"


def _holds(path: Path, event_ids: list[str]) -> bool:
    """Return whether a backup holds one of the runs. One that cannot be read may hold it."""
    try:
        check_database(path)
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            marks = ", ".join("?" * len(event_ids))
            query = f"SELECT 1 FROM agent_runs WHERE event_id IN ({marks}) LIMIT 1"  # noqa: S608 - placeholders
            return connection.execute(query, event_ids).fetchone() is not None
    except (sqlite3.Error, OSError):
        return True
