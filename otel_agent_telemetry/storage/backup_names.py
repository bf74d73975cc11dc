"""Names of backups: `{stem}-{YYYYMMDDTHHMMSSZ}.sqlite`, with `-2`, `-3` … within one second.

While a copy is being made it is `{name}.{pid}.partial`, locked by the process that makes it;
one that nobody has locked was left by a process that was killed.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.locks import FileLock


def free_name(folder: Path, stem: str, now_ns: int) -> Path:
    """A path for a backup made now, at which nothing stands."""
    stamp = iso_utc(now_ns)[:19].replace("-", "").replace(":", "") + "Z"
    target = folder / f"{stem}-{stamp}.sqlite"
    number = 1
    while target.exists():
        number += 1
        target = folder / f"{stem}-{stamp}-{number}.sqlite"
    return target


def backups_of(folder: Path, stem: str) -> list[Path]:
    """The backups of a database in a folder, oldest first by their names; other files are left out."""
    if not folder.is_dir():
        return []
    name = re.compile(re.escape(stem) + r"-(\d{8}T\d{6}Z)(?:-(\d+))?\.sqlite", re.ASCII)
    found = [
        (match[1], int(match[2] or 1), path)
        for path in folder.iterdir()
        if (match := name.fullmatch(path.name)) and path.is_file() and not path.is_symlink()
    ]
    return [path for _, _, path in sorted(found)]


def prune_backups(newest: Path, stem: str, *, keep: int) -> list[Path]:
    """Remove older backups beside the one just made, so that `keep` stay with it; the removed ones.

    The one just made stays whatever the clock said then. Raises OSError.
    """
    others = [path for path in backups_of(newest.parent, stem) if path != newest]
    doomed = others[: max(len(others) - (keep - 1), 0)]
    for path in doomed:
        path.unlink(missing_ok=True)
    return doomed


def partial_name(target: Path, pid: int) -> Path:
    """What a copy is called until it is whole."""
    return target.with_name(f"{target.name}.{pid}.partial")


def sweep_partials(folder: Path, stem: str) -> None:
    """Remove what killed processes left half made of this database. Never raises."""
    name = re.compile(re.escape(stem) + r"(?:-\d{8}T\d{6}Z(?:-\d+)?)?\.\w+\.\d+\.partial(?:-journal)?", re.ASCII)
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            lock = FileLock(path)
            if name.fullmatch(path.name) and not path.is_symlink() and lock.try_acquire():
                lock.release(unlink=True)
