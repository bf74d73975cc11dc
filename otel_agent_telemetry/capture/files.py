"""The array files of a process: one object a path, which the recorder's background looks after."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from otel_agent_telemetry.capture.array_file import ArrayFile
from otel_agent_telemetry.capture.array_reader import Entry
from otel_agent_telemetry.recorder import Recorder


class Entries(Protocol):
    """Where captured entries are kept: an `ArrayFile`, or what stands for one in a test."""

    set_aside: Path | None

    def append(self, entry: bytes) -> bool:
        """Keep one entry; see `ArrayFile.append`."""

    def entries(self) -> Iterator[Entry]:
        """Every entry, newest first."""

    def sync(self) -> None:
        """Force what was kept to the disk."""


class CaptureFiles:
    """The array files that entries of one recorder go to. A companion of the recorder."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._files: dict[Path, ArrayFile] = {}
        recorder.chores.append(self.look_after)

    def at(self, path: Path) -> Entries:
        """The file at an absolute path; opens nothing."""
        known = self._files.get(path)
        if known is None:
            made = ArrayFile(path, max_bytes=self._recorder.config.capture_max_bytes, clock=self._recorder.clock)
            known = self._files.setdefault(path, made)
        return known

    def look_after(self, timeout_s: float) -> None:
        """Add what waits, for about so long, and force to the disk what was written. Blocks. Never raises OSError."""
        for path, file in list(self._files.items()):
            with self._telling(path):
                file.settle(timeout_s=timeout_s)
            if self._recorder.config.fsync != "off":
                with self._telling(path):
                    file.sync()

    @contextlib.contextmanager
    def _telling(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            self._recorder.counters.failed(f"writing {path}", problem)
