"""What targets refused for good: how much, and the last of it with the reasons."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from otel_agent_telemetry.buffer.layout import rejected_path
from otel_agent_telemetry.buffer.segment import read_segment
from otel_agent_telemetry.wire import Line


def last_rejected(buffer_dir: Path, *, limit: int) -> list[Line]:
    """The last refused records, oldest first, each with `rejected_by` and `rejected_because`. Raises OSError."""
    found: deque[Line] = deque()
    for path in sorted(rejected_path(buffer_dir, "").parent.glob("*.jsonl"), reverse=True):
        kept: deque[Line] = deque(maxlen=limit - len(found))
        for line in read_segment(path, to_the_end=True):
            kept.extend(line.records)
        found.extendleft(reversed(kept))
        if len(found) >= limit:
            break
    return list(found)
