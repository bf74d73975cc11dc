"""Ends a program that starts a thread while the interpreter shuts down, or imports while it finalises.

A module of its own: what it registers must not keep the program's own names alive until the end.
"""

from __future__ import annotations

import os
import sys
import threading

_main = threading.main_thread()
_start = threading.Thread.start


def _watched_start(thread: threading.Thread) -> None:
    others = [other for other in threading.enumerate() if other is not _main and not other.daemon]
    if sys.is_finalizing() or not (_main.is_alive() or others):
        os.write(2, b"a thread is started while the interpreter shuts down\n")
        os._exit(3)
    _start(thread)


class _Finder:
    """Asked first for each module that is not imported yet."""

    def find_spec(self, name, path=None, target=None, *, sys=sys, write=os.write, leave=os._exit):
        if sys.is_finalizing():
            write(2, b"imported while the interpreter finalises: " + name.encode() + b"\n")
            leave(4)


threading.Thread.start = _watched_start
sys.meta_path.insert(0, _Finder())
