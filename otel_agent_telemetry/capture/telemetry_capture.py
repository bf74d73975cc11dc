"""`TelemetryCapture`: entries about work that is over, and the query for them (seed 004)."""

from __future__ import annotations

import itertools
import logging
import os
from pathlib import Path
from typing import Any, Final

from otel_agent_telemetry.capture.array_file import CaptureFiles
from otel_agent_telemetry.capture.entry import (
    JOB_TYPE,
    Entry,
    checked_status,
    message_of,
    milliseconds,
    name_of,
    plain_inputs,
    run_status,
    told_of,
)
from otel_agent_telemetry.client import TelemetryClient
from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.wire import dumps_text

_log = logging.getLogger(__name__)
_CENTURY_MS: Final = 100 * 365 * 86_400_000.0
_shared: list[TelemetryCapture] = []


class TelemetryCapture:
    """Captures entries: each goes to a JSON array file, and is a run like every other.

    `telemetry_file`: default `BETTY_TELEMETRY_FILE`, else `{base}/registry/telemetry.json`.
    `client`: who records the runs; default a client of the environment's configuration.
    Cheap to make; all of one configuration share everything. Safe under threads and after a
    fork.
    """

    def __init__(
        self,
        telemetry_file: str | Path | None = None,
        *,
        config: TelemetryConfig | None = None,
        client: TelemetryClient | None = None,
    ) -> None:
        self.client = client or TelemetryClient(config)
        given = self.client.config.capture_file if telemetry_file is None else telemetry_file
        self.telemetry_file = Path(os.path.abspath(os.path.expanduser(given)))  # noqa: PTH100, PTH111 - never raise
        """The JSON array file."""
        self._recorder = self.client._recorder  # noqa: SLF001 - captures write through the client's recorder
        self._file = self._recorder.component(CaptureFiles).at(self.telemetry_file)

    @classmethod
    def shared(cls) -> TelemetryCapture:
        """The one of the environment as it was at the first call; decorators and contexts use it."""
        if not _shared:
            _shared.append(cls())
        return _shared[0]

    @staticmethod
    def replace_shared(capture: TelemetryCapture | None) -> TelemetryCapture | None:
        """Let decorators and contexts use another, or for None read the environment again. Returns the one before."""
        before = _shared[0] if _shared else None
        _shared[:] = [] if capture is None else [capture]
        return before

    def capture(  # noqa: PLR0917 - the seed's signature
        self,
        skill: str,
        status: str,
        duration_ms: float,
        caller: str,
        inputs: dict[str, Any] | None = None,
        error_message: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Entry:
        """Keep an entry about work that has just ended, and return it as it is kept.

        On return it survives the death of the process: in the file, and as a run of the
        agent `skill` with the same `run_id`. `duration_ms`: milliseconds; what is no number
        from 0 on is 0. `inputs` and `metadata` have their secrets masked and are bounded to
        64 KiB each. Raises ValueError for a `status` that is not success, failure, timeout,
        error or pending; nothing else. What could not be kept is logged. Never waits.
        """
        entry, problem = self.try_capture(
            skill, status, duration_ms, caller, inputs=inputs, error_message=error_message, metadata=metadata
        )
        if problem is not None:
            self._recorder.counters.failed(f"writing {self.telemetry_file}", problem)
        return entry

    def try_capture(
        self,
        skill: object,
        status: str,
        duration_ms: object,
        caller: object,
        *,
        inputs: object = None,
        error_message: object = None,
        metadata: object = None,
    ) -> tuple[Entry, Exception | None]:
        """As `capture`, and why the file could not be written, if so; the run is kept all the same."""
        entry: Entry = {
            "timestamp": "",
            "skill": name_of(skill, "unknown"),
            "status": checked_status(status),
            "duration_ms": min(milliseconds(duration_ms), _CENTURY_MS),
            "caller": name_of(caller, "unknown"),
            "inputs": plain_inputs(inputs),
            "error_message": message_of(error_message),
            "metadata": plain_inputs(metadata),
        }
        now_ns = self._recorder.clock.now_ns()
        entry["timestamp"] = iso_utc(now_ns)
        run_id = self.client._record_ended(  # noqa: SLF001 - the same package's client
            entry["skill"],
            JOB_TYPE,
            entry["caller"],
            status=run_status(entry["status"]),
            start_ns=now_ns - int(entry["duration_ms"] * 1_000_000),
            end_ns=now_ns,
            told=told_of(entry),
        )
        return entry, self._write(entry, run_id)

    def keep(self, entry: Entry, run_id: str | None) -> None:
        """Add an entry, with the id of its run, to the file. What could not be kept is logged. Never raises."""
        problem = self._write(entry, run_id)
        if problem is not None:
            self._recorder.counters.failed(f"writing {self.telemetry_file}", problem)

    def _write(self, entry: Entry, run_id: str | None) -> Exception | None:
        """Add the entry, unless recording is off: the outer edge of a disk that is full, read-only or gone."""
        entry["run_id"] = run_id
        if self.client.config.sdk_disabled:
            return None
        problem = None
        try:
            self._file.append(dumps_text(entry).encode())
            if self.client.config.fsync == "always":
                self._file.sync()
        except Exception as failure:
            problem = failure
        if self._file.set_aside is not None:
            aside, self._file.set_aside = self._file.set_aside, None
            _log.warning("%s was no JSON array; it is kept as %s", self.telemetry_file, aside)
        return problem

    def query(
        self,
        skill: str | None = None,
        status: str | None = None,
        caller: str | None = None,
        limit: int | None = None,
    ) -> list[Entry]:
        """The entries that match all that is given, newest first, `limit` of them at most.

        Looks through the file, and those that it was rotated to, from the end, as far as it
        must. Blocks on the disk. Raises OSError when the file cannot be read.
        """
        wanted = {"skill": skill, "status": status, "caller": caller}
        asked = {name: value for name, value in wanted.items() if value is not None}
        matching = (entry for entry in self._file.entries() if all(entry.get(name) == asked[name] for name in asked))
        return list(matching if limit is None else itertools.islice(matching, max(limit, 0)))
