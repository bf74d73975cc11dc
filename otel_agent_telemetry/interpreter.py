"""When the interpreter allows threads and imports: not while it shuts down, and not across a fork.

A thread that is started while the interpreter finalises never runs, and on CPython 3.11 the
thread that starts it waits for it for ever. So from the shutdown on, no thread is started and
nothing is imported.

CPython copies a module that a thread has imported only half-way into the child of a fork, with
its import lock locked for ever: the child then hangs, or fails, at its next import of it. We import
late, to spare the application's start, so a fork soon after the first run could meet that. What is
imported within a function is therefore imported within `importing()`, and a fork waits until
nobody is there; nobody enters it until the fork is made.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
import time
from typing import Any, Final

from otel_agent_telemetry import forks

_LOOK_S: Final = 0.001
_OURS_WITHIN_S: Final = 5.0
_THEIRS_WITHIN_S: Final = 0.5


def is_shutting_down() -> bool:
    """Return whether exit handlers run already, or the interpreter finalises.

    Not yet while the main thread has ended and other threads, which it waits for, still work.
    """
    if sys.is_finalizing():
        return True
    main = threading.main_thread()
    return not main.is_alive() and all(thread.daemon for thread in threading.enumerate() if thread is not main)


class _Imports:
    """Counts the threads that import within a function. A fork waits for all of them, and keeps others out."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler that records may come at any moment
        self._inside = 0

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1

    def __exit__(self, *_raised: object) -> None:
        with self._lock:
            self._inside -= 1

    def begin_fork(self) -> None:
        """Keep threads out of here until `end_fork`; first wait for those that are in."""
        began = time.monotonic()
        while True:
            self._lock.acquire()
            # Bounded: an import that hangs must not hang the application's fork. Ours take some hundredths of a second.
            if self._inside <= 0 or time.monotonic() - began >= _OURS_WITHIN_S:
                return
            self._lock.release()
            time.sleep(_LOOK_S)

    def end_fork(self) -> None:
        """Let threads in again, in the parent."""
        self._lock.release()

    def begin_again(self) -> None:
        """Become as new, in the child: the threads that were inside do not exist here."""
        self._lock = threading.RLock()
        self._inside = 0


_imports: Final = _Imports()


def importing() -> contextlib.AbstractContextManager[None]:
    """Return the context for imports within a function: no fork happens inside it. May wait for a fork."""
    return _imports


def wait_for_imports() -> bool:
    """Wait until no other thread is in the middle of an import of its own; False when half a second was too short.

    Where it does not show who imports (its import system names its locks on CPython 3.10 to
    3.14), true at once.
    """
    began = time.monotonic()
    while _threads_that_import():
        if time.monotonic() - began >= _THEIRS_WITHIN_S:
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


forks.at_fork(before=_imports.begin_fork, in_parent=_imports.end_fork, in_child=_imports.begin_again)
