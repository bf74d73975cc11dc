"""The journal: every run state, event and step, one NDJSON file a UTC day, for ever.

Files are `{ndjson_dir}/events_{YYYYMMDD}.ndjson` in the line format of `wire`; the day is
the writer's when it wrote the line. Any number of threads and processes append to one file.
The journal is what `replay` rebuilds a database from and what an auditor reads; nothing in
this package ever rewrites it.

Reading the journal back: by day, by run, and live.

Everything streams; a day file of any size is read in bounded memory. Torn lines are counted
and what can be believed of them is returned, as `wire.read_line` says.

A past day may be compressed: `events_{YYYYMMDD}.ndjson.gz` and `.zst` are read as the file that
they were made of, offsets are those of that file. Where an archive cannot be read on, what comes
before is returned, then one torn line, and a warning names the file.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

import orjson

from otel_agent_telemetry.append import AppendFile, LostDescriptorError, sync_dir
from otel_agent_telemetry.clock import day_of
from otel_agent_telemetry.errors import ConfigurationError
from otel_agent_telemetry.interpreter import importing
from otel_agent_telemetry.patterns import lazy
from otel_agent_telemetry.trusted_files import open_to_read, trusted_names
from otel_agent_telemetry.wire import LINE_HEAD, Line, read_line

if TYPE_CHECKING:
    from otel_agent_telemetry.archives import ArchiveReader

_DAY_NS: Final = 86_400 * 1_000_000_000


def journal_path(folder: Path, day: str) -> Path:
    """Return the file of a UTC day given as `YYYYMMDD`."""
    return folder / f"events_{day}.ndjson"


class _DayFile(AppendFile):
    """The file of a day, and the instants whose lines belong into it."""

    __slots__ = ("ends_ns", "starts_ns")

    def __init__(self, folder: Path, now_ns: int) -> None:
        self.starts_ns = now_ns - now_ns % _DAY_NS
        self.ends_ns = self.starts_ns + _DAY_NS
        super().__init__(journal_path(folder, day_of(now_ns)))


class Journal:
    """Appends lines to the day's file. Safe under threads, without a lock; opens nothing until used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file: _DayFile | None = None
        """The day's file, as far as it is open: who appends often may write lines of its instants to it directly."""
        self._retired: deque[tuple[AppendFile, int]] = deque()

    def append(self, line: bytes, now_ns: int) -> None:
        """Write one line; on return it survives the death of the process. Raises OSError."""
        # Read once: another thread may replace it, and a file that was read stays usable until it is collected.
        file = self.file
        if file is None or not file.starts_ns <= now_ns < file.ends_ns:
            file = self._turn_to(now_ns)
        try:
            file.write(line)
        except LostDescriptorError:  # other code of the process closed it; the file itself is still there
            self._turn_to(now_ns).write(line)

    def _turn_to(self, now_ns: int) -> _DayFile:
        """Open the file of a day and write to it from now on."""
        previous, file = self.file, _DayFile(self.folder, now_ns)
        self.file = file
        if previous is not None:
            # Kept, not closed: other threads may be about to write to it, and those lines want a sync as well.
            self._retired.append((previous, 2))
        return file

    def sync(self) -> None:
        """Force everything to the disk and leave files that someone removed. Blocks. Raises OSError.

        A retired file is synced twice, a second apart, for a thread that was still in `append`.
        """
        for _ in range(len(self._retired)):
            file, rounds = self._retired.popleft()
            with contextlib.suppress(LostDescriptorError):
                file.sync()
            if rounds > 1:
                self._retired.append((file, rounds - 1))
        current = self.file
        if current is None:
            return
        # `rm` or logrotate: the open file has no name any more, and lines written to it would be lost.
        if current.replaced():
            self.file = None
            self._retired.append((current, 2))
            return
        if current.dirty:
            current.sync()
            sync_dir(self.folder)

    def forget(self) -> None:
        """Close the files; the next line opens them anew. In a forked child, the parent's stay open."""
        self.file = None
        self._retired.clear()


_log: Final = logging.getLogger(__name__)
_NAME: Final = lazy(r"events_(\d{8})\.ndjson(\.gz|\.zst)?")
_DAY_AT: Final = slice(len("events_"), len("events_YYYYMMDD"))
_READ_BYTES: Final = 1 << 20
_BLOCK: Final = 1 << 16
"""Bytes read at once: the records of one block stay in the processor's cache, which halves the cost of parsing."""
_MAX_LINE: Final = 128 << 20
_begins_as_line: Final = methodcaller("startswith", LINE_HEAD)
_TIME_MEMBERS: Final = ("timestamp", "end_time", "updated_at", "start_time")


class JournalLine(NamedTuple):
    """One physical line: its records, its length in bytes, whether it was torn, and whether it ends with LF."""

    records: tuple[Line, ...]
    size: int
    torn: bool
    ended: bool


def journal_files(
    folder: Path, *, first_day: str = "", last_day: str = "99999999", with_copies: bool = False
) -> list[Path]:
    """Return the day files between two UTC days (`YYYYMMDD`, inclusive), oldest first, compressed ones too.

    Files that cannot be trusted (`trusted_files`) are left out, and so are archives beside the
    file that they were, or are just being, made of, unless `with_copies`. Raises OSError.
    """
    if not folder.is_dir():
        return []
    names = {
        name for name in trusted_names(folder) if (parts := _NAME.fullmatch(name)) and first_day <= parts[1] <= last_day
    }
    # Who compresses today's file has another one next, with what came later.
    files = (folder / name for name in names if with_copies or not _is_copy(folder / name, names))
    return sorted(files, key=lambda path: (day_of_file(path), not is_compressed(path)))


def day_of_file(path: Path) -> str:
    """Return the UTC day (`YYYYMMDD`) of a file that `journal_files` has returned."""
    return path.name[_DAY_AT]


def is_compressed(path: Path) -> bool:
    """Return whether a day file is an archive, which is read from its beginning only."""
    return path.suffix != ".ndjson"


def _is_copy(path: Path, names: Collection[str]) -> bool:
    """Return whether a day file is an archive that begins like the day's plain file. Raises OSError."""
    # `zstd` keeps what it compresses, and `gzip` removes it last.
    if path.stem not in names or not is_compressed(path):
        return False
    try:
        first = next(read_journal(path), None)
    except ConfigurationError:  # it cannot be decompressed here, so nobody knows
        return False
    return first is None or not first.size or first == next(read_journal(path.with_name(path.stem)), None)


@contextmanager
def _opened(path: Path, offset: int, *, buffering: int) -> Iterator[tuple[BinaryIO, ArchiveReader | None]]:
    """Yield a day file's content from an offset on, and the reader of its archive if it is one. Raises OSError."""
    if not is_compressed(path):
        with open_to_read(path, buffering=buffering) as stream:
            stream.seek(offset)
            yield stream, None
        return
    with importing():
        from otel_agent_telemetry.archives import open_archive
    stream, archive = open_archive(path)
    with stream:
        # An archive cannot be entered in the middle: what comes before the offset is decompressed and dropped.
        while offset > 0 and (passed := len(stream.read(min(offset, _BLOCK)))):
            offset -= passed
        yield stream, archive
        if archive.damage:
            _log.warning("%s: %s; what comes before that was read", path, archive.damage)


def read_journal(path: Path, *, containing: str = "", offset: int = 0) -> Iterator[JournalLine]:
    """Yield the lines of one day file, one by one; with `containing`, only those whose bytes hold that text.

    A last line without LF is returned too when it is whole. Raises OSError.
    """
    needle = containing.encode("utf-8", "replace")
    with _opened(path, offset, buffering=_READ_BYTES) as (stream, archive):
        while raw := stream.readline(_MAX_LINE):
            if needle and needle not in raw:
                continue
            line = read_line(raw)
            yield JournalLine(line.records, len(raw), line.torn, raw.endswith(b"\n"))
        if archive is not None and archive.damage:
            yield JournalLine((), 0, torn=True, ended=True)


class JournalPart(NamedTuple):
    """Consecutive physical lines: their records, their length in bytes, and how many were torn."""

    records: Sequence[Line]
    size: int
    torn: int


def read_parts(path: Path, *, containing: str = "", offset: int = 0, end: int | None = None) -> Iterator[JournalPart]:
    """Yield the lines of one day file, some thousand at a time: what `read_journal` yields, at a third of its cost.

    With `containing`, only lines whose bytes hold that text. With `end`, only lines that end,
    with their LF, before that byte. Raises OSError.
    """
    needle = containing.encode("utf-8", "replace")
    with _opened(path, offset, buffering=0) as (stream, archive):
        for lines in _blocks(stream, None if end is None else end - offset):
            # A block without the text is passed over without making lines of it.
            if needle in lines:
                yield _part_of(lines, needle)
        if archive is not None and archive.damage:
            yield JournalPart((), 0, 1)


def read_blocks(path: Path, *, offset: int = 0, end: int | None = None) -> Iterator[bytes]:
    """Yield the bytes of whole lines of one day file, some 64 KiB at a time, as `read_parts` reads them.

    Where an archive is damaged, they end before that. Raises OSError.
    """
    with _opened(path, offset, buffering=0) as (stream, _):
        yield from _blocks(stream, None if end is None else end - offset)


def _blocks(stream: BinaryIO, left: int | None) -> Iterator[bytes]:
    """Yield consecutive whole lines, some 64 KiB at a time, of at most the next `left` bytes.

    Without `left`, the last line is yielded too where it has no LF.
    """
    block, size = b"", _BLOCK
    while True:
        wanted = size - len(block) if left is None else min(size - len(block), left)
        fresh = stream.read(wanted) if wanted > 0 else b""
        left = None if left is None else left - len(fresh)
        block += fresh
        length = block.rfind(b"\n") + 1
        if not length and len(block) >= size and size < _MAX_LINE:
            size *= 2  # a line longer than the block
            continue
        if not block or not (length or left is None or size >= _MAX_LINE):
            return
        length = length or len(block)
        yield block[:length]
        block, size = block[length:], _BLOCK


def _part_of(block: bytes, needle: bytes) -> JournalPart:
    """Return what whole lines hold; they are parsed one by one only where one of them is not as usual."""
    lines = list(_lines_containing(block, needle)) if needle else block.removesuffix(b"\n").split(b"\n")
    try:
        if all(map(_begins_as_line, lines)):
            records = list(map(orjson.loads, lines))
            if not any("wide" in record for record in records):
                return JournalPart(records, len(block), 0)
    except (ValueError, RecursionError):
        pass  # a torn line
    read = [read_line(line) for line in lines]
    return JournalPart(
        [record for line in read for record in line.records], len(block), sum(line.torn for line in read)
    )


def parts_of(stream: BinaryIO, *, size: int | None = None) -> Iterator[JournalPart]:
    """Yield the lines of an open file of lines, as `read_parts` does: the whole ones among the next `size` bytes.

    Without `size` a last line without LF is yielded too. Raises OSError.
    """
    return (_part_of(lines, b"") for lines in _blocks(stream, size))


def _lines_containing(block: bytes, needle: bytes) -> Iterator[bytes]:
    """Yield the lines that hold a text, without their LF."""
    at = block.find(needle)
    while at >= 0:
        end = block.find(b"\n", at)
        end = len(block) if end < 0 else end
        yield block[block.rfind(b"\n", 0, at) + 1 : end]
        at = block.find(needle, end)


def lines_of_run(folder: Path, *, event_id: str, first_day: str = "", last_day: str = "99999999") -> Iterator[Line]:
    """Yield every record of one run, in the order in which it was written."""
    for path in journal_files(folder, first_day=first_day, last_day=last_day):
        for part in read_parts(path, containing=event_id):
            yield from (record for record in part.records if record.get("event_id") == event_id)


def time_of(record: Line) -> str:
    """Return when the recorded thing of a line happened, as ISO text; "" when the line has no time."""
    return max((str(record.get(name) or "") for name in _TIME_MEMBERS), default="")
