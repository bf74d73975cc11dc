"""What a program sees of its own process: taken before and after telemetry, and compared.

Imported by the programs of this folder; needs the standard library only.
"""

from __future__ import annotations

import gc
import importlib
import locale
import logging
import os
import random
import signal
import socket
import sys
import threading
import time
import warnings
from pathlib import Path

FOREIGN = ("httpx", "httpcore", "sqlalchemy", "alembic", "rich", "requests", "genai_prices", "psycopg", "tenacity")
"""Third-party modules that delivery could want, and that must not appear behind the application."""


def host_state() -> dict[str, object]:
    """Everything that belongs to the application, by name."""
    mask = os.umask(0)
    os.umask(mask)
    return {
        "signal handlers": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "hooks": (sys.excepthook, sys.unraisablehook, sys.displayhook, threading.excepthook),
        "import system": (list(sys.meta_path), list(sys.path), list(sys.path_hooks)),
        "warning filters": [one for one in warnings.filters if not _is_of_opentelemetry(one)],
        "root handlers": (list(logging.getLogger().handlers), logging.getLogger().level),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "working directory": Path.cwd(),
        "umask": mask,
        "locale": locale.setlocale(locale.LC_ALL),
        "environment": dict(os.environ),
        "gc": (gc.get_freeze_count(), gc.isenabled(), gc.get_threshold(), gc.get_debug(), list(gc.callbacks)),
        "random": random.getstate(),
        "limits": (sys.getrecursionlimit(), sys.getswitchinterval(), socket.getdefaulttimeout()),
        "threading": (threading.stack_size(), threading.gettrace(), threading.getprofile()),
        "tracing": (sys.gettrace(), sys.getprofile()),
        "children": children(),
    }


def _is_of_opentelemetry(warning_filter: tuple) -> bool:
    """Whether `get_tracer` of OpenTelemetry's SDK added a filter: it hides a deprecation of its own."""
    return "opentelemetry" in str(warning_filter[3])


def changes(before: dict[str, object]) -> list[str]:
    """Names of what is not as it was."""
    now = host_state()
    return [name for name, value in before.items() if now[name] != value]


def children() -> list[str]:
    """Ids of this process's child processes."""
    return [pid for tasks in Path("/proc/self/task").glob("*/children") for pid in tasks.read_text().split()]


def descriptors() -> dict[int, str]:
    """Each open descriptor and what it leads to."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = str(Path(f"/proc/self/fd/{name}").readlink())
        except OSError:  # the one that lists them
            continue
    return found


def later_than_a_comparison() -> None:
    """Let more than the millisecond pass in which a descriptor counts as compared."""
    until = time.monotonic_ns() + 2_000_000
    while time.monotonic_ns() < until:
        pass


def background_has_begun() -> None:
    """Wait until the first imports of our threads have ended: what an import has open must be closed by nobody else.

    What their first pass would import a second later is imported here.
    """
    wanted = ("otel_agent_telemetry.git", "otel_agent_telemetry.delivery.deliverer")
    while not all(_is_imported(name) for name in wanted):
        later_than_a_comparison()
    for name in ("otel_agent_telemetry.storage.writer_lock", "otel_agent_telemetry.delivery.sqlite_target"):
        importlib.import_module(name)


def fork_in_c() -> int:
    """Fork as C code does, without the hooks of `os.fork`, while no other thread runs or waits for the interpreter.

    A thread that waits for it then would leave the interpreter's own lock unusable in the child.
    """
    import ctypes

    before = None  # nothing was looked at yet
    while before != (before := _used_by_other_threads()):
        time.sleep(0.02)
    return ctypes.PyDLL(None).fork()


def _used_by_other_threads() -> dict[str, str]:
    """CPU time of each other thread, which stands still where the thread sleeps."""
    tasks = [task for task in Path("/proc/self/task").iterdir() if task.name != str(threading.get_native_id())]
    return {task.name: (task / "schedstat").read_text() for task in tasks}


def _is_imported(name: str) -> bool:
    module = sys.modules.get(name)
    return module is not None and not getattr(module.__spec__, "_initializing", False)
