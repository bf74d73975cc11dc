"""A SQLite file that is deleted, replaced or moved under a running service.

An open connection keeps the file that it opened, whatever stands at the path now: what it writes
is lost, or SQLite refuses it for ever. So the path is compared (device and inode) with the file
that was opened, before each group of writes and each read; a comparison costs microseconds.

Another file is opened as at a start: found current or upgraded, or refused with the reason until
it can be used. A missing one is refused for ten seconds, in which an operator may put it back,
and is then made anew.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from otel_agent_telemetry.errors import StorageError, StoreUnavailableError

_log = logging.getLogger(__name__)
MISSING_S: Final = 10.0
_Identity = tuple[int, int]


class FileWatch:
    """Watches the file at `path`; `reopen` closes all connections and opens what stands there. Safe under threads.

    `reopen` is called in the thread that finds the change, and raises StorageError when what
    stands there cannot be used; it is called again then with the next check.
    """

    def __init__(self, path: Path | None, reopen: Callable[[], None]) -> None:
        self._path = path
        self._reopen = reopen
        self._opened: _Identity | None = None
        self._missing_since: float | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Take what stands at the path now for what is open."""
        self._opened = self._identity()

    def changed(self) -> bool:
        """Return whether another file, or none, stands at the path than the one that is open."""
        return self._path is not None and self._identity() != self._opened

    def check(self) -> None:
        """Open what stands at the path now, when that has changed. Raises StorageError with the reason."""
        if not self.changed():
            return
        # Compared again under it: a crowd of readers that notice the change must reopen the file once.
        with self._lock:
            found = self._identity()
            if found == self._opened:  # another thread was faster
                return
            if found is None:
                self._wait_for_it()
            _log.warning("the database file %s was replaced; opening what stands there now", self._path)
            try:
                self._reopen()
            except StorageError as problem:
                _log.error("the database file %s was replaced by one that cannot be used: %s", self._path, problem)
                raise
            # Asked anew: opening may have made the file, or upgraded another one in its place.
            self._opened, self._missing_since = self._identity(), None

    def _wait_for_it(self) -> None:
        """Raise StoreUnavailableError while the file is missing for less than ten seconds."""
        now = time.monotonic()
        if self._missing_since is None:
            self._missing_since = now
            _log.error("the database file %s is gone; it is made anew if it does not come back", self._path)
        left_s = self._missing_since + MISSING_S - now
        if left_s > 0:
            raise StoreUnavailableError(
                f"writing {self._path}: the file was deleted or moved; a new one is made in {left_s:.0f} s",
                hint="Put the file back, or restart the service to begin with an empty database at once.",
            )

    def _identity(self) -> _Identity | None:
        """Return device and inode of what stands at the path; None for nothing."""
        if self._path is None:
            return None
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_dev, status.st_ino
