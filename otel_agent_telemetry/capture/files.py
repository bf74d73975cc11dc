"""The array files of a process: one object a path, which the recorder's background looks after."""

from __future__ import annotations

from pathlib import Path

from otel_agent_telemetry.capture.array_file import ArrayFile
from otel_agent_telemetry.recorder import Recorder


class CaptureFiles:
    """The array files that entries of one recorder go to. A companion of the recorder."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._files: dict[Path, ArrayFile] = {}
        recorder.chores.append(self.look_after)

    def at(self, path: Path) -> ArrayFile:
        """The file at an absolute path; opens nothing."""
        known = self._files.get(path)
        if known is None:
            made = ArrayFile(path, max_bytes=self._recorder.config.capture_max_bytes, clock=self._recorder.clock)
            known = self._files.setdefault(path, made)
        return known

    def look_after(self) -> None:
        """Add what waits, and force to the disk what was written. Blocks. Never raises OSError."""
        for path, file in list(self._files.items()):
            try:
                file.settle()
                if self._recorder.config.fsync != "off":
                    file.sync()
            except OSError as problem:
                self._recorder.counters.failed(f"writing {path}", problem)
