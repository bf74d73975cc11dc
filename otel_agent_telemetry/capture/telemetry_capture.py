"""`TelemetryCapture`: entries about finished work, and the query for them (seed 004)."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

from otel_agent_telemetry.capture.array_file import ArrayFile
from otel_agent_telemetry.capture.entry import (
    JOB_TYPE,
    Entry,
    captured_between,
    checked_status,
    message_of,
    milliseconds,
    name_of,
    plain_inputs,
    run_settings,
    run_status,
)
from otel_agent_telemetry.client import TelemetryClient
from otel_agent_telemetry.clock import iso_utc, parse_iso
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.recording.recorder import Recorder
from otel_agent_telemetry.wire import dumps_text

_log = logging.getLogger(__name__)
_CENTURY_MS: Final = 100 * 365 * 86_400_000.0
_shared: list[TelemetryCapture] = []


class EntryStore(Protocol):
    """Where captured entries are kept: an `ArrayFile`, or a list in a test."""

    foreign_file: Path | None

    def append(self, entry: bytes, *, wait: bool = True) -> bool:
        """Keep one entry; see `ArrayFile.append`."""

    async def append_async(self, entry: bytes) -> bool:
        """Keep one entry; see `ArrayFile.append_async`."""

    def entries(self) -> Iterator[Entry]:
        """Yield every entry, newest first."""

    def sync(self) -> None:
        """Force what was kept to the disk."""


class CaptureFiles:
    """The array files that one recorder's entries go to; its background syncs them."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._files: dict[Path, ArrayFile] = {}
        recorder.periodic_tasks.append(self._maintain)

    def at(self, path: Path) -> EntryStore:
        """Return the file at an absolute path, the same object for each call; opens nothing."""
        file = self._files.get(path)
        if file is None:
            config = self._recorder.config
            file = ArrayFile(
                path,
                max_bytes=config.capture_max_bytes,
                lock_timeout_s=config.capture_lock_timeout_s,
                clock=self._recorder.clock,
            )
            # One step of the interpreter: two threads that make one go on with the same object, and so the same lock.
            file = self._files.setdefault(path, file)
        return file

    def _maintain(self, _timeout_s: float) -> None:
        """Add set-aside entries to files that are not locked, and sync what was written. Blocks on the disk."""
        for path, file in list(self._files.items()):
            with self._failures_counted(path):
                file.add_set_aside()
            if self._recorder.config.fsync != "off":
                with self._failures_counted(path):
                    file.sync()

    @contextlib.contextmanager
    def _failures_counted(self, path: Path) -> Iterator[None]:
        """Count an OSError of the block as a failure, and go on."""
        try:
            yield
        except OSError as problem:
            self._recorder.counters.failed(f"writing {path}", problem)


class TelemetryCapture:
    """Captures entries: each goes to a JSON array file, and is recorded as a run.

    `telemetry_file`: default `BETTY_TELEMETRY_FILE`, else `{base}/registry/telemetry.json`.
    `config`: default the environment's. `client`: records the runs, default a client of
    `config`. Cheap to make; all of one configuration share everything. Safe under threads
    and after a fork. A copy is the object itself; a pickled one keeps nothing where it is
    unpickled, and warns once.

        telemetry = TelemetryCapture()
        telemetry.capture("plugin.build", "success", 320.5, "CLI", inputs={"path": "./plugin"})
        telemetry.query(status="failure", limit=10)
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

    def __copy__(self) -> TelemetryCapture:
        return self

    def __deepcopy__(self, _memo: object) -> TelemetryCapture:
        return self

    def __reduce__(self) -> tuple[Callable[..., TelemetryCapture], tuple[str, TelemetryClient]]:
        return _unpickled, (str(self.telemetry_file), self.client)  # the client arrives as one that records nothing

    @classmethod
    def shared(cls) -> TelemetryCapture:
        """Return the instance that decorators and contexts use, made from the environment at the first call."""
        if not _shared:
            _shared.append(cls())
        return _shared[0]

    @staticmethod
    def replace_shared(capture: TelemetryCapture | None) -> TelemetryCapture | None:
        """Replace the shared instance and return the one before; None makes the next use read the environment again."""
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

        On return it is in the file and recorded as a run of the agent `skill` with the same
        `run_id`; both survive the death of the process. `duration_ms`: milliseconds; a value
        that is no number ≥ 0 counts as 0. `inputs` and `metadata`: secrets are masked, 64 KiB
        are kept of each. Raises ValueError for a `status` that is not success, failure,
        timeout, error or pending, and nothing else; what cannot be kept is logged.

        Blocks while another writer holds the file's lock: for microseconds as a rule, for
        `TELEMETRY_CAPTURE_LOCK_TIMEOUT_S` (2 s) at most. After that the entry is set aside,
        a warning is logged, and the next `capture` or `query` adds it to the file.
        """
        entry, problem = self.try_capture(
            skill, status, duration_ms, caller, inputs=inputs, error_message=error_message, metadata=metadata
        )
        self._report(problem)
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
        """Capture as `capture` does; return the entry, and why the file could not be written. The run is kept."""
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
        entry["run_id"] = self.client._record_ended(  # noqa: SLF001 - the same package's client
            entry["skill"],
            JOB_TYPE,
            entry["caller"],
            status=run_status(entry["status"]),
            # The work ended just now: its start follows from the duration that the caller has measured.
            start_ns=now_ns - int(entry["duration_ms"] * 1_000_000),
            end_ns=now_ns,
            settings=run_settings(entry),
        )
        return entry, self._write(entry)

    def keep(self, entry: Entry, *, wait: bool = True) -> None:
        """Add the entry of a recorded run to the file. Never raises; what cannot be kept is logged.

        Blocks on the file's lock as `capture` does, not at all without `wait`.
        """
        self._report(self._write(entry, wait=wait))

    async def keep_async(self, entry: Entry) -> None:
        """Add the entry as `keep` does, without blocking the event loop while another writer holds the lock."""
        if self.client.config.sdk_disabled:
            return
        problem: Exception | None = None
        try:
            self._finish_write(added=await self._file.append_async(dumps_text(entry).encode()))
        except Exception as failure:  # the outer edge of a disk that is full, read-only or unmounted
            problem = failure
        self._warn_of_foreign_file()
        self._report(problem)

    def _write(self, entry: Entry, *, wait: bool = True) -> Exception | None:
        """Add the entry unless recording is off, and return what prevented it."""
        if self.client.config.sdk_disabled:
            return None
        problem: Exception | None = None
        try:
            self._finish_write(added=self._file.append(dumps_text(entry).encode(), wait=wait))
        except Exception as failure:  # the outer edge of a disk that is full, read-only or unmounted
            problem = failure
        self._warn_of_foreign_file()
        return problem

    def _finish_write(self, *, added: bool) -> None:
        """Warn when the entry was set aside, and sync if every write is synced. Raises OSError."""
        if not added:
            self._recorder.counters.warn(
                f"lock of {self.telemetry_file}",
                "another program keeps %s locked: entries are set aside, and added by the next capture or query",
                self.telemetry_file,
            )
        if self.client.config.fsync == "always":
            self._file.sync()

    def _warn_of_foreign_file(self) -> None:
        """Log once that a file which is no array of entries was moved aside."""
        if self._file.foreign_file is not None:
            # Taken before it is logged, so that a second thread does not report the same file.
            moved, self._file.foreign_file = self._file.foreign_file, None
            _log.warning("%s was no JSON array; it is kept as %s", self.telemetry_file, moved)

    def _report(self, problem: Exception | None) -> None:
        """Count a failed write of the file; None is none."""
        if problem is not None:
            self._recorder.counters.failed(f"writing {self.telemetry_file}", problem)

    def query(
        self,
        skill: str | None = None,
        status: str | None = None,
        caller: str | None = None,
        limit: int | None = None,
        *,
        since: str | None = None,
        until: str | None = None,
    ) -> list[Entry]:
        """Return the entries that match all given filters, newest first, at most `limit` (default: all).

        `since` and `until` are ISO 8601 times, both inclusive; an entry without a time that can be read is in no
        period. Raises ValueError for a bound that is no time.

        Reads the file, and those that it was rotated to, from the end, as far as it must.
        Blocks on the disk, and on the file's lock as `capture` does when entries are set
        aside. Raises OSError when the file cannot be read.
        """
        filters = {"skill": skill, "status": status, "caller": caller}
        given = {name: value for name, value in filters.items() if value is not None}
        matching = (entry for entry in self._file.entries() if all(entry.get(name) == given[name] for name in given))
        if since is not None or until is not None:
            first, last = (None if bound is None else parse_iso(bound) for bound in (since, until))
            matching = (entry for entry in matching if captured_between(entry, first, last))
        return list(matching if limit is None else itertools.islice(matching, max(limit, 0)))


def _unpickled(telemetry_file: str, client: TelemetryClient) -> TelemetryCapture:
    """Return what a pickled capture becomes; its client has become one that records nothing."""
    return TelemetryCapture(telemetry_file, client=client)
