"""A thread of the service that shows hooks of git whether a coding agent has a run open: a file in the buffer folder.

A hook must know within a millisecond whether it has to look further, and asks no service. The file
`agents.open` stands there while a run of a coding agent is open, a second late at most. One that a killed
service left behind costs later commits a look in the background, and nothing else.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

from sqlalchemy import Engine, select

from otel_agent_telemetry.commits.agent_variables import CODING_AGENTS
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.suppress_instrumentation import suppress_instrumentation
from otel_agent_telemetry.errors import StorageError
from otel_agent_telemetry.service.service_thread import ServiceThread
from otel_agent_telemetry.storage.engine import make_read_engine, reading
from otel_agent_telemetry.storage.run_filters import is_running
from otel_agent_telemetry.storage.tables import agent_runs
from otel_agent_telemetry.trusted_files import make_private_dir, open_file

FILE_NAME: Final = "agents.open"
_EVERY_S: Final = 1.0
_STOP_TIMEOUT_S: Final = 5.0
_one_open: Final = select(agent_runs.c.id).where(is_running(), agent_runs.c.agent_name.in_(CODING_AGENTS)).limit(1)


class OpenAgentWatch:
    """Looks once a second, by an index that has open runs alone."""

    def __init__(self, config: TelemetryConfig) -> None:
        self._config = config
        self._path = config.buffer_dir / FILE_NAME
        self._thread = ServiceThread(self._run, name="open-agents", stop_timeout_s=_STOP_TIMEOUT_S)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and remove the file. Idempotent. Blocks up to 5 s."""
        self._thread.stop()
        self._show(is_open=False)

    def _run(self) -> None:
        engine = make_read_engine(self._config)
        while not self._thread.stopping.wait(_EVERY_S):
            # A database that cannot be read now is what the service itself reports.
            with contextlib.suppress(StorageError):
                self._show(is_open=_is_one_open(engine))
            # No connection is kept: another file may stand at the path a second later.
            engine.dispose()

    def _show(self, *, is_open: bool) -> None:
        """Make or remove the file. A folder that cannot be written costs no more than the file."""
        if is_open == self._path.exists():
            return
        with contextlib.suppress(OSError):
            if is_open:
                make_private_dir(self._path.parent)
                os.close(open_file(self._path, os.O_WRONLY | os.O_CREAT))
            else:
                self._path.unlink()


def _is_one_open(engine: Engine) -> bool:
    """Return whether a coding agent has an open run. Raises StorageError."""
    with suppress_instrumentation(), reading(engine, "looking for open agents in") as connection:
        return connection.execute(_one_open).first() is not None
