"""Whether the interpreter is shutting down: no thread is started and nothing imported from then on.

A thread that is started while the interpreter finalises never runs, and on CPython 3.11
whoever starts it waits for it for ever.
"""

from __future__ import annotations

import sys
import threading


def is_shutting_down() -> bool:
    """Return whether exit handlers run already, or the interpreter finalises.

    Not yet while the main thread has ended and other threads, which it waits for, still work.
    """
    if sys.is_finalizing():
        return True
    main = threading.main_thread()
    return not main.is_alive() and all(thread.daemon for thread in threading.enumerate() if thread is not main)
