"""Journal lines from a process or service that records no runs of its own.

A line needs a writer id, a number that grows by one with each line, and the day file to
append it to (see `wire`). The recorder has these for the runs of its process. Whoever only
notes something about other people's runs, such as the end of an abandoned run, uses a
`JournalWriter`, which opens no buffer segment and starts no thread.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from otel_agent_telemetry.buffer.identity import WriterIdentity
from otel_agent_telemetry.clock import Clock, SystemClock
from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.counters import Counters
from otel_agent_telemetry.journal import Journal
from otel_agent_telemetry.wire import EVENT, RUN, encode_line


class JournalWriter:
    """Writes numbered lines under a writer id of its own. Safe under threads; opens nothing before the first line.

    A write that fails is counted in `counters` and logged, not raised: the caller's work has
    already happened, and its journal line is the lesser part of it.
    """

    def __init__(
        self, config: TelemetryConfig, *, clock: Clock | None = None, counters: Counters | None = None
    ) -> None:
        self.counters = counters or Counters()
        self._clock = clock or SystemClock()
        self._journal = Journal(config.ndjson_dir)
        self._writer = ""
        self._last_seq = 0
        self._lock = threading.Lock()

    def write_run(self, fields: Fields) -> bool:
        """Append one state of a run; False when the line could not be written."""
        return self._write(RUN, fields)

    def write_event(self, members: Mapping[str, Any]) -> bool:
        """Append one event of a run, the members of `RunEvent`; False when the line could not be written."""
        return self._write(EVENT, members)

    def sync(self) -> None:
        """Force the written lines to the disk. Blocks; a failure is counted and logged."""
        try:
            self._journal.sync()
        except OSError as problem:
            self.counters.failed("fsync", problem)

    def _write(self, record_type: str, members: Mapping[str, Any]) -> bool:
        """Append one line; return whether it is written."""
        now_ns = self._clock.now_ns()
        # Numbered and appended under one lock: lines of a writer stand in the order of their numbers.
        with self._lock:
            if not self._writer:
                self._writer = WriterIdentity.of_this_process(now_ns).writer
            # A number whose line cannot be written stays used: `verify` reports it as missing, as it is.
            self._last_seq += 1
            line = encode_line(record_type, {"writer": self._writer, "seq": self._last_seq, **members})
            try:
                self._journal.append(line, now_ns)
            except OSError as problem:
                self.counters.failed("journal write", problem)
                return False
        return True
