"""The files that SQLite opens by itself: made private, and looked at before it opens them.

SQLite takes a path and not a descriptor. So the database and the files that it keeps beside it
are checked by `trusted_files` just before: a named pipe in their place would hold SQLite up for
ever, and a link would have it write to another file.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from otel_agent_telemetry.trusted_files import check_file, followed, make_private_dir, open_file

SIDECARS: Final = ("-journal", "-wal", "-shm")
"""Endings of the files that SQLite keeps beside a database."""


def sidecar(path: Path, ending: str) -> Path:
    """Return the path of one of the files that SQLite keeps beside a database."""
    return path.with_name(path.name + ending)


def make_database_file(path: Path) -> None:
    """Make an empty file (0600) in a private folder, unless something is there. Raises OSError."""
    # An empty file is an empty database to SQLite, and its journals take over the mode.
    if path.exists():
        return
    make_private_dir(path.parent)
    with contextlib.suppress(FileExistsError):
        os.close(open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))


def check_database(path: Path) -> None:
    """Raise UntrustedFileError unless SQLite may open a database, which may be missing. Raises OSError."""
    real = followed(path)
    for ending in ("", *SIDECARS):
        check_file(sidecar(real, ending))
