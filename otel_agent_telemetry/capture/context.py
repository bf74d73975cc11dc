"""`TelemetryContext`: a block of work as an entry and a run (seed 004)."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any, Self

from otel_agent_telemetry.capture.call import CapturedCall
from otel_agent_telemetry.capture.entry import ERROR, SUCCESS, Entry, known_status, message_of, name_of, plain_inputs
from otel_agent_telemetry.capture.telemetry_capture import TelemetryCapture
from otel_agent_telemetry.wire import bounded_repr

_log = logging.getLogger(__name__)


class TelemetryContext:
    """`with` or `async with`: the block is a run, and an entry when it ends.

    What the block raises is `error` (`timeout` for a timeout) and goes on its way. Without
    that the status is what was set, else `error` if an error was set, else `success`. No
    method raises or waits. `entry` is the entry, once the block has ended.
    """

    def __init__(
        self,
        skill: str,
        caller: str = "runtime",
        inputs: dict[str, Any] | None = None,
        *,
        capture: TelemetryCapture | None = None,
    ) -> None:
        self.entry: Entry | None = None
        self._skill = name_of(skill, "unknown")
        self._caller = name_of(caller, "runtime")
        self._inputs = plain_inputs(inputs)
        self._capture = capture
        self._status: str | None = None
        self._error: str | None = None
        self._call: CapturedCall | None = None

    @property
    def run_id(self) -> str | None:
        """The id of the run, and of the entry; None before the block."""
        return self._call.run_id if self._call is not None else None

    def set_inputs(self, inputs: dict[str, Any]) -> None:
        """What the work was given, in place of what was told before. Secrets are masked; kept on return."""
        self._inputs = plain_inputs(inputs)
        if self._call is not None:
            self._call.set_inputs(self._inputs)

    def set_status(self, status: str) -> None:
        """What the block ends as: success, failure, timeout, error or pending. Another is a warning."""
        word = known_status(status)
        if word is None:
            _log.warning("%s is no status of an entry; it is left as it was", bounded_repr(status))
        else:
            self._status = word

    def set_error(self, error_message: str) -> None:
        """Why the work did not succeed; its status is `error` unless another one is set."""
        self._error = message_of(error_message)

    def __enter__(self) -> Self:
        self._status, self._error = None, None
        try:
            capture = self._capture or TelemetryCapture.shared()
            self._call = CapturedCall(capture, self._skill, self._caller, self._inputs)
        except Exception as problem:  # the outer edge
            _log.warning("the capture of %s failed: %s", self._skill, bounded_repr(problem))
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._call is None:
            return
        try:
            if exc is not None:
                self.entry = self._call.fail(exc, self._error)
            else:
                self.entry = self._call.end(self._status or (ERROR if self._error else SUCCESS), self._error)
        except Exception as problem:  # the outer edge
            _log.warning("the capture of %s failed: %s", self._skill, bounded_repr(problem))

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.__exit__(exc_type, exc, tb)
