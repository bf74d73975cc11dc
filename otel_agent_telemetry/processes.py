"""Whether a process of this host is stopped: Ctrl-Z, a debugger, a paused container."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_STOPPED: Final = frozenset({"T", "t"})


def is_stopped(pid: int) -> bool:
    """Return whether a process is there and does not run; False where the platform has no /proc."""
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    state = status.rpartition(b") ")[2][:1].decode("ascii", "replace")  # the name before it may hold anything
    return state in _STOPPED
