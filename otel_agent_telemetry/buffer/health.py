"""What happened in this buffer beyond the life of any one process; `doctor` shows it.

`{buffer}/health.json`: one JSON object of the fields below, replaced atomically by whoever
delivers. Not forced to disk: after a power cut it may be a little old.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import orjson

from otel_agent_telemetry.buffer.layout import health_path, list_writers
from otel_agent_telemetry.trusted_files import read_bytes, replace_content
from otel_agent_telemetry.wire import load_object

_WRITERS_KEPT: Final = 200


@dataclass(slots=True)
class Health:
    """Sums over all deliveries and all writers that are gone."""

    delivered: int = 0
    lines: int = 0
    """Lines of the journal that a service has taken."""
    takes_lines: bool = False
    """Whether the last target takes lines of the journal."""
    rejected: int = 0
    torn_lines: int = 0
    closed_runs: int = 0
    writers_gone: int = 0
    target: str = ""
    last_delivery: str = ""
    last_problem: str = ""
    last_problem_at: str = ""
    counters: dict[str, int] = field(default_factory=dict)
    """The counters that writers left behind, added up."""
    issued: dict[str, int] = field(default_factory=dict)
    """Writer → the highest line number that it is known to have used, of the latest writers that are gone."""

    def add_counters(self, writer: str, left_behind: Mapping[str, Any]) -> None:
        """Add a gone writer's counters; its last error is kept as the last problem if there is none."""
        self.writers_gone += 1
        if isinstance(issued := left_behind.get("last_seq"), int):
            # Writer ids begin with their time, so the last ones in order are the latest.
            self.issued = dict(sorted({**self.issued, writer: issued}.items())[-_WRITERS_KEPT:])
        for name, value in left_behind.items():
            # `last_seq` is the number of a line, not a count: a sum of it means nothing.
            if isinstance(value, int) and name != "last_seq":
                self.counters[name] = self.counters.get(name, 0) + value
            elif name == "last_error":
                self.last_problem = str(value)

    def write(self, folder: Path) -> None:
        """Replace the file. Raises OSError.

        Only the holder of the drain lock writes it: two would lose each other's counts.
        """
        replace_content(health_path(folder), orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2))


def read_health(folder: Path) -> Health:
    """Return the health kept in a folder; zero for whatever cannot be read or is not of its type."""
    health = Health()
    kept = _read_object(health_path(folder))
    # Field by field: a file of another version, or damaged by hand, keeps what is usable of it.
    for name in (f.name for f in fields(Health)):
        if type(kept.get(name)) is type(getattr(health, name)):
            setattr(health, name, kept[name])
    return health


def live_counters(folder: Path) -> dict[str, dict[str, Any]]:
    """Return writer → identity and `counters`, from the lock files that are there. Raises OSError."""
    return {files.writer: read_writer_note(files.lock) for files in list_writers(folder)}


def read_writer_note(lock: Path) -> dict[str, Any]:
    """Return the identity and `counters` that a writer keeps in its lock file; empty when unreadable."""
    return _read_object(lock)


def _read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; an empty one where there is none."""
    try:
        return load_object(read_bytes(path)) or {}
    except OSError:
        return {}
