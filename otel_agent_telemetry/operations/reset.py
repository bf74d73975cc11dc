"""Removing what was recorded below the base directory: journal, buffer, database, backups and captured entries.

Only files with names that this package gives, in the folders that it makes, are removed, and none that
`trusted_files` would not open: no link is followed, and another user's file stays. Rules of alerts, and what `connect`
needs to take settings back, were not recorded and stay. Folders stay, too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from otel_agent_telemetry.buffer.layout import drain_lock_path, list_writers
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.drain_lock import DrainLock
from otel_agent_telemetry.errors import ConfigurationError, StoreUnavailableError
from otel_agent_telemetry.locks import is_locked
from otel_agent_telemetry.storage.writer_lock import WriterLock
from otel_agent_telemetry.trusted_files import entries_below, remove_below

_WRITER: Final = r"\d{8}T\d{6}-\d+-[0-9a-f]{8}"
_CURSOR: Final = r"journal-[0-9a-f]{1,64}\.(cursor|new)"
_SIDECAR: Final = r"(-journal|-wal|-shm)?"
_BACKUP: Final = rf"telemetry-(damaged-)?\d{{8}}T\d{{6}}Z(-\d+)?\.sqlite{_SIDECAR}(\.\d+\.partial{_SIDECAR})?"
_PLACES: Final = (
    ("journal", "raw", r"events_\d{8}\.ndjson(\.gz|\.zst)?|deletions\.ndjson"),
    (
        "buffer",
        "buffer",
        rf"{_WRITER}(\.lock|-\d{{6,}}\.jsonl(\.ack)?)|health\.(json|new)|agents\.open|{_CURSOR}|drain\.lock",
    ),
    ("refused records", "buffer/rejected", r"\d{8}\.jsonl"),
    ("database", "db", r"telemetry\.sqlite(-journal|-wal|-shm|\.writer\.lock)?"),
    ("backups", "backups", _BACKUP),
    (
        "captured entries",
        "registry",
        r"telemetry(\.\d{8}T\d{6}\.\d{6}Z)?\.json(\.set-aside)?|telemetry\.json\..+\.damaged",
    ),
    ("captured entries", "registry/telemetry.json.waiting-{user}", r".+\.json"),
)
"""What is there, its folder below the base directory, and the names of its files (`docs/files.md`)."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Files of one kind in one folder below the base directory, `inside`."""

    what: str
    inside: str
    names: tuple[str, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class Inventory:
    """What `remove` would remove, and what it leaves although its name is one of ours: path below the base → why."""

    recorded: tuple[Recorded, ...]
    left: dict[str, str]


def inventory(config: TelemetryConfig) -> Inventory:
    """Return what was recorded below the base directory. Changes nothing. Raises ConfigurationError, OSError."""
    if os.name == "nt":
        # Windows has no way to open a folder and its files without following links.
        raise ConfigurationError(
            "reset is not available on Windows", hint="Remove the folders that docs/files.md names."
        )
    recorded, left = [], {}
    for what, folder, pattern in _PLACES:
        inside = folder.format(user=os.geteuid())
        try:
            entries = entries_below(config.base_dir, inside)
        except OSError as problem:
            left[inside] = problem.strerror or str(problem)
            continue
        ours = [entry for entry in entries if re.fullmatch(pattern, entry[0], re.ASCII)]
        left.update({f"{inside}/{name}": reason for name, _, reason in ours if reason})
        kept = sorted((name, size) for name, size, reason in ours if not reason)
        if kept:
            recorded.append(Recorded(what, inside, tuple(name for name, _ in kept), sum(size for _, size in kept)))
    return Inventory(tuple(recorded), left)


def remove(config: TelemetryConfig, found: Inventory) -> None:
    """Remove what an inventory names, while no process can deliver and no service can start.

    Raises StoreUnavailableError where a process records or a service runs, and nothing was removed then; OSError.
    """
    with _nobody_else(config):
        for one in found.recorded:
            remove_below(config.base_dir, one.inside, one.names)


@contextmanager
def _nobody_else(config: TelemetryConfig) -> Iterator[None]:
    """Hold the locks of the deliverer and of the database's writer. Raises StoreUnavailableError."""
    check_unused(config)
    drain, writer = DrainLock(config.buffer_dir), WriterLock(config.db_path)
    with ExitStack() as held:
        # Not where there is nothing: taking a lock makes its file.
        if config.buffer_dir.is_dir():
            if not drain.try_acquire():
                raise _in_use("another process is delivering")
            held.callback(drain.release)
        if config.db_path.exists():
            if not writer.try_acquire():
                raise _in_use(f"a service runs over it, {writer.describe_holder()}")
            held.callback(writer.release)
        yield


def check_unused(config: TelemetryConfig) -> None:
    """Raise StoreUnavailableError where a process records, one delivers, or a service runs over this folder."""
    if config.buffer_dir.is_dir():
        recording = sum(is_locked(writer.lock) for writer in list_writers(config.buffer_dir))
        if recording:
            raise _in_use(f"{recording} processes are recording into it")
        if is_locked(drain_lock_path(config.buffer_dir)):
            raise _in_use("another process is delivering")
    writer = WriterLock(config.db_path)
    if writer.holder() is not None:
        raise _in_use(f"a service runs over it, {writer.describe_holder()}")


def _in_use(why: str) -> StoreUnavailableError:
    """Return the error for a folder that is in use."""
    return StoreUnavailableError(f"nothing was removed: {why}", hint="End it first; `agent-telemetry doctor` names it.")
