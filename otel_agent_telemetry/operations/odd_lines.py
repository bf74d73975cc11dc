"""Where torn and repeated lines of the journal stand: file and number of the line, for the report of `verify`.

Nothing is read where nothing was found: the numbers of lines are counted only in files that have such a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from otel_agent_telemetry.journal import read_journal


@dataclass(frozen=True, slots=True)
class OddLine:
    """A line of a day file, from 1, and what is odd about it: `torn`, or the writer and number that it repeats."""

    file: str
    line: int
    reason: str


def torn_lines(path: Path) -> Iterator[OddLine]:
    """Yield the torn lines of a day file. Raises OSError."""
    for number, line in enumerate(read_journal(path), 1):
        if line.torn:
            yield OddLine(path.name, number, "torn")


def repeated_lines(files: Iterable[Path], repeated: Mapping[str, set[int]]) -> Iterator[OddLine]:
    """Yield every line, the first ones too, that has one of these numbers of a writer. Raises OSError."""
    for path in files if repeated else ():
        for number, line in enumerate(read_journal(path), 1):
            for record in line.records:
                writer, seq = record.get("writer"), record.get("seq")
                if isinstance(writer, str) and seq in repeated.get(writer, ()):
                    yield OddLine(path.name, number, f"number {seq} of writer {writer}, which another line has")
