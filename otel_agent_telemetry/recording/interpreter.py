"""When the interpreter allows threads and imports: not while it shuts down, and not across a fork.

A thread that is started while the interpreter finalises never runs, and on CPython 3.11 the
thread that starts it waits for it for ever. So from the shutdown on, no thread is started and
nothing is imported.

CPython copies a module that another thread has imported only half-way into the child of a fork,
with its import lock locked for ever: the child then hangs, or fails, at its next import of it.
Our threads import late, to spare the application's start, so a fork soon after the first run
could meet them. Before a fork we wait until no other thread is importing anything.
"""

from __future__ import annotations

import importlib
import sys
import threading
import time
from collections.abc import Collection
from typing import Any, Final


def is_shutting_down() -> bool:
    """Return whether exit handlers run already, or the interpreter finalises.

    Not yet while the main thread has ended and other threads, which it waits for, still work.
    """
    if sys.is_finalizing():
        return True
    main = threading.main_thread()
    return not main.is_alive() and all(thread.daemon for thread in threading.enumerate() if thread is not main)


_LOOK_S: Final = 0.001


def wait_for_imports(*, within_s: float = 0.5, own: Collection[int] = (), own_within_s: float = 5.0) -> bool:
    """Wait until no other thread is in the middle of an import; False when that took too long.

    `own`: identifiers of threads that are waited for longer, because they import little but may
    get the interpreter seldom. Where it does not show who imports (its import system names its
    locks on CPython 3.10 to 3.14), true at once.
    """
    began = time.monotonic()
    while importing := _threads_that_import():
        if time.monotonic() - began >= (within_s if importing.isdisjoint(own) else own_within_s):
            return False
        time.sleep(_LOOK_S)
    return True


def _threads_that_import() -> set[int]:
    """Return the other threads that own a module's import lock; these exist only during the import."""
    system: Any = getattr(importlib, "_bootstrap", None)
    references = list(getattr(system, "_module_locks", {}).values())
    locks = [lock for reference in references if (lock := reference()) is not None]
    owners = {owner for lock in locks if (owner := getattr(lock, "owner", None)) is not None}
    return owners - {threading.get_ident()}
