"""A fork must not meet a half-done import of our background threads.

CPython copies a module that another thread is importing half-done into the child, and its
import lock for ever locked: the child then hangs, or fails, at its next import of it. Our
threads import late, to spare the application's start, so a fork soon after the first run
could meet them. Before a fork we wait until no other thread is importing anything.
"""

from __future__ import annotations

import importlib
import threading
import time
from typing import Any, Final

_LOOK_S: Final = 0.001


def wait_for_imports(*, within_s: float = 0.5) -> bool:
    """Wait until no other thread is in the middle of an import; False when that took too long.

    Where the interpreter does not tell (its import system names its locks on CPython 3.10 to
    3.14), true at once.
    """
    deadline = time.monotonic() + within_s
    while _another_thread_imports():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_LOOK_S)
    return True


def _another_thread_imports() -> bool:
    """Locks of modules are kept only while they are being imported."""
    system: Any = getattr(importlib, "_bootstrap", None)
    references = list(getattr(system, "_module_locks", {}).values())
    owners = {getattr(lock, "owner", None) for reference in references if (lock := reference()) is not None}
    return bool(owners - {None, threading.get_ident()})
