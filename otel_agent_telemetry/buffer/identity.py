"""Who writes: one identity for each process that records a run, anew after a fork.

The id appears in every line and in the names of the writer's files, and sorts by time.
"""

from __future__ import annotations

import os
import platform
import random
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from otel_agent_telemetry.clock import iso_utc

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MAX_DIRECTORY = 1024


class WriterIdentity(NamedTuple):  # not a dataclass, which would be a millisecond of every start
    """A writer: `{YYYYMMDD}T{HHMMSS}-{pid}-{8 hex}`, and what is known of its process."""

    writer: str
    host: str
    pid: int
    boot_id: str
    started: str
    directory: str = ""
    """The working directory when the process became a writer; "" where it has none or a very long one.

    A commit hook reads it in the segments, to find the run that a commit belongs to.
    """

    @classmethod
    def of_this_process(cls, now_ns: int) -> WriterIdentity:
        """Return a new identity for the calling process, with 32 bits of the system's randomness."""
        started = iso_utc(now_ns)
        stamp = started[:19].replace("-", "").replace(":", "")
        # Not the module's generator: an application that seeds `random` would get one id in every process.
        token = random.SystemRandom().getrandbits(32)
        return cls(
            writer=f"{stamp}-{os.getpid()}-{token:08x}",
            host=host_name(),
            pid=os.getpid(),
            boot_id=boot_id(),
            started=started,
            directory=_working_directory(),
        )

    def describe_end(self) -> str:
        """Return what is known of how this writer's process ended, as a phrase, given that it is gone."""
        if self.host != host_name():
            return f"process {self.pid} on {self.host} is gone"
        # Before the pid means anything: after a restart another process may have it.
        if self.boot_id and self.boot_id != boot_id():
            return f"host {self.host} was restarted while process {self.pid} ran"
        return f"process {self.pid} on {self.host} is gone"


def _working_directory() -> str:
    """Return the directory that the process works in; "" for one that is gone, or longer than is worth a line."""
    try:
        directory = os.getcwd()  # noqa: PTH109 - a text is all that is needed, and this is a process's first record
    except OSError:
        return ""
    return directory if len(os.fsencode(directory)) <= _MAX_DIRECTORY else ""


def host_name() -> str:
    """Return this machine's name; `unknown` where the platform gives none."""
    return platform.node() or "unknown"


@lru_cache(maxsize=1)
def boot_id() -> str:
    """Return the id of this start of the machine; "" where the platform has none (it is Linux's).

    With it a deliverer knows that a writer is gone although another process has its pid by now.
    """
    try:
        return _BOOT_ID.read_bytes().strip().decode("utf-8", "replace")  # a codec that needs no import
    except OSError:
        return ""
