"""Forks: what a child of one does first, also where the fork was made past Python.

`os.fork` runs hooks in the child before any other code there. C code that forks by itself (an
extension, a server that embeds Python, `ctypes`) runs none of them: the child would go on as its
parent, with the same writer id, files and locks, and with threads that do not exist in it. So who
records sets a mark in memory that the kernel clears in every child (`MADV_WIPEONFORK`), and looks
at that byte before each line and each decision about whose a run is; others call `notice`.

    if not forks.mark[0]:
        forks.notice()

A child that neither records nor waits for a delivery notices nothing. It keeps copies of its
parent's locks for as long as it lives, or until it runs another program. Nor can anything here
help a child that was forked while another thread imported, or waited for the interpreter: those
locks are Python's own, and only `os.fork` renews them.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import threading
from collections.abc import Callable
from typing import Final, Protocol

_WIPE_ON_FORK: Final = 18
"""`MADV_WIPEONFORK` of Linux 4.14 and later, which `mmap` has no name for."""


class _Mark(Protocol):
    """What can be asked for its first item: 0 in a child that has not noticed yet that it is one."""

    def __getitem__(self, index: int, /) -> int: ...


class _ProcessId:
    """The mark where memory cannot be cleared by a fork: asks for the process id each time."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    def __getitem__(self, _index: int, /) -> int:
        return os.getpid() == self._pid


_UNWATCHED: Final = b"\x01"
mark: _Mark = _UNWATCHED
"""Replaced by `watch` and in a child: read it from the module each time."""
_guard = threading.RLock()  # a signal handler that records may come at any moment
_process_id = os.getpid()
_in_child: Final[list[Callable[[], None]]] = []


def at_fork(
    *,
    in_child: Callable[[], None],
    before: Callable[[], None] | None = None,
    in_parent: Callable[[], None] | None = None,
) -> None:
    """Have functions called at each fork from now on, for as long as the process lives.

    `in_child` is called once in every child, in the order in which they were given. `before` and `in_parent` are
    called for `os.fork` alone: nobody knows of another fork beforehand.
    """
    # One hook of Python's for all of these: called by itself, each would come a second time after `notice`.
    _in_child.append(in_child)
    if hasattr(os, "register_at_fork"):
        if before is not None:
            os.register_at_fork(before=before)
        if in_parent is not None:
            os.register_at_fork(after_in_parent=in_parent)


def watch() -> None:
    """Set the mark, from which on forks are noticed that run no hooks. Idempotent; where no process forks, nothing."""
    global mark  # noqa: PLW0603 - the one mark of this process
    if mark is _UNWATCHED and hasattr(os, "fork"):
        mark = _cleared_by_forks() or _ProcessId()


def _cleared_by_forks() -> mmap.mmap | None:
    """Return a byte that is 1 here and 0 in children; None where the system has no such memory."""
    if sys.platform != "linux":
        return None
    with contextlib.suppress(OSError, ValueError):
        # Memory of this process alone: what processes share, the default of `mmap`, is never cleared.
        page = mmap.mmap(-1, 1, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_WIPE_ON_FORK)
        page[0] = 1
        return page
    return None


def notice() -> None:
    """Do what the hooks of `os.fork` do, in a child that comes from a fork without them; nothing elsewhere."""
    if mark[0]:
        return
    with _guard:
        if not mark[0]:  # another thread of the child may just have done it
            _begin_in_child()


def _after_os_fork() -> None:
    # A hook of the application's that came before this one may have recorded, and so have noticed.
    if not mark[0] or os.getpid() != _process_id:
        _begin_in_child()


def _begin_in_child() -> None:
    """Call the hooks, and become a process that watches no forks yet."""
    global mark, _guard, _process_id  # noqa: PLW0603 - the state of this module is that of one process
    _guard, _process_id = threading.RLock(), os.getpid()
    for hook in _in_child:
        hook()
    # Last: until then another thread of the child waits in `notice`, where it would else write as the parent.
    mark = _UNWATCHED


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_os_fork)
