"""Which folder keeps the data of this user: a candidate itself, or a folder of the user's own below it.

A folder that several users of a host share is divided by user: each has `user-{user id}` below
it, private (0700), and in there what a folder of one user has. They share no file, so that a
user can neither read nor break what another one recorded; their runs meet in a service.

- A well-known folder is shared when its group or others may write it, or when another user's
  data stand in it; a user whose data stand in it already goes on with them.
- A folder that is configured is used as it is. Where another user's data stand in it and this
  user cannot write them, it is divided too.

Only looks; nothing is created.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from otel_agent_telemetry.trusted_files import is_shared, may_be_written_by_others

_WRITTEN: Final = ("raw", "buffer")
"""The folders that every recording process writes."""


def own_folder(folder: Path) -> Path | None:
    """Return where this user's data go in a well-known folder: itself or a folder below it; None for neither."""
    try:
        written = [folder / name for name in _WRITTEN if os.path.lexists(folder / name)]
        status = folder.stat()
        shared = is_shared(status)
        if shared and not may_be_written_by_others(status):
            return None  # one other user's, which root alone could write
        if all(map(_is_mine, written)) and (written or not shared) and _can_be_written(folder):
            return folder
        return _below(folder)
    except (OSError, ValueError):  # missing, or a path that cannot even be asked for
        return None


def usable_folder(folder: Path) -> Path:
    """Return where this user's data go in a configured folder: itself, unless only a folder below it can be written."""
    try:
        if all(_can_be_written(folder / name) for name in _WRITTEN if os.path.lexists(folder / name)):
            return folder
        return _below(folder) or folder
    except (OSError, ValueError):
        return folder


def _below(folder: Path) -> Path | None:
    """Return this user's folder in a shared one; None where it is another's, or cannot be made. Raises OSError."""
    below = folder / f"user-{os.geteuid() if hasattr(os, 'geteuid') else 0}"
    usable = _is_mine(below) if os.path.lexists(below) else _can_be_written(folder)
    return below if usable else None


def _is_mine(folder: Path) -> bool:
    """Return whether this is a folder of this user, and no link, that can be written. Raises OSError."""
    if folder.is_symlink() or not _can_be_written(folder):
        return False
    return not hasattr(os, "geteuid") or folder.stat().st_uid == os.geteuid()


def _can_be_written(folder: Path) -> bool:
    """Return whether this is a folder whose files this user may make and remove."""
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def folder_problem(folder: Path) -> str:
    """Return why a folder cannot be made or written; "" when it can."""
    at = folder
    while not os.path.lexists(at) and at != at.parent:  # Path.exists raises where it may not look
        at = at.parent
    if not os.path.isdir(at):  # noqa: PTH112 - the same
        return f"{at} is not a folder"
    if not os.access(at, os.W_OK | os.X_OK):
        return f"{at} cannot be written"
    return ""
