"""Records that a target refused for good, kept with the reason (invariant 5).

`{buffer}/rejected/{YYYYMMDD}.jsonl`, lines of the `wire` format: the record as it was, with
two members more, `rejected_by` and `rejected_because`. Nobody reads them but people and
`doctor`; `agent-telemetry replay` would offer the same records again from the journal.

`count_rejected` and `last_rejected` read them for `doctor` and `rejected`.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

from otel_agent_telemetry.append import AppendFile
from otel_agent_telemetry.buffer.layout import rejected_path
from otel_agent_telemetry.buffer.segment import read_segment
from otel_agent_telemetry.clock import day_of
from otel_agent_telemetry.trusted_files import open_to_read, trusted_names
from otel_agent_telemetry.wire import Line, encode_line


def store_rejected(folder: Path, record: Line, *, target: str, reason: str, now_ns: int) -> None:
    """Write one refused record. On return it is on its way to the disk. Raises OSError."""
    members = {name: value for name, value in record.items() if name != "record_type"}
    line = encode_line(
        str(record.get("record_type", "run")), {"rejected_by": target, "rejected_because": reason, **members}
    )
    file = AppendFile(rejected_path(folder, day_of(now_ns)))
    file.write(line)
    file.sync()


def rejected_files(buffer_dir: Path) -> list[Path]:
    """Return the files of refused records, oldest first. Raises OSError."""
    folder = rejected_path(buffer_dir, "").parent
    return sorted(folder / name for name in trusted_names(folder) if name.endswith(".jsonl")) if folder.is_dir() else []


def count_rejected(folder: Path) -> int:
    """Return how many records lie rejected. Reads the files, so it blocks; raises OSError."""
    count = 0
    for path in rejected_files(folder):
        with open_to_read(path) as lines:
            count += sum(1 for _ in lines)
    return count


def last_rejected(buffer_dir: Path, *, limit: int) -> list[Line]:
    """Return the last refused records, oldest first, each with `rejected_by` and `rejected_because`. Raises OSError."""
    found: deque[Line] = deque()
    for path in reversed(rejected_files(buffer_dir)):
        kept: deque[Line] = deque(maxlen=limit - len(found))
        for line in read_segment(path, to_the_end=True):
            kept.extend(line.records)
        found.extendleft(reversed(kept))
        if len(found) >= limit:
            break
    return list(found)
