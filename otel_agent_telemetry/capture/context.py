"""`TelemetryContext`: a block of work as an entry and a run (seed 004)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from otel_agent_telemetry.capture.call import CapturedCall
from otel_agent_telemetry.capture.entry import ERROR, SUCCESS, Entry, known_status, message_of, name_of, plain_inputs
from otel_agent_telemetry.capture.telemetry_capture import TelemetryCapture
from otel_agent_telemetry.wire import bounded_repr

_log = logging.getLogger(__name__)


class TelemetryContext:
    """Captures a block (`with` or `async with`): a run while it lasts, an entry when it ends.

    A block that raises is an `error` (`timeout` for a timeout), and the exception propagates.
    Otherwise the status is the one that was set, else `error` if an error was set, else
    `success`. `entry` is the entry, once the block has ended. `capture`: where to, default
    `TelemetryCapture.shared()`. No method raises of itself. The end of the block waits for
    the file's lock as `TelemetryCapture.capture` does; `async with` does not block the event
    loop meanwhile. A copy is the context itself; a pickled one keeps nothing where it is unpickled.

        with TelemetryContext(skill="plugin.build", caller="CLI") as block:
            block.set_inputs({"path": "./plugin"})
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

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Callable[..., TelemetryContext], tuple[Any, ...]]:
        capture = self._capture or TelemetryCapture.shared()
        return _unpickled, (type(self), self._skill, self._caller, self._inputs, capture)

    @property
    def run_id(self) -> str | None:
        """Return the id of the run and the entry; None before the block."""
        return self._call.run_id if self._call is not None else None

    def set_inputs(self, inputs: dict[str, Any]) -> None:
        """Replace the inputs; secrets are masked. On return the run has them."""
        self._inputs = plain_inputs(inputs)
        if self._call is not None:
            self._call.set_inputs(self._inputs)

    def set_status(self, status: str) -> None:
        """Set the status: success, failure, timeout, error or pending. Anything else is ignored with a warning."""
        word = known_status(status)
        if word is None:
            _log.warning("%s is no status of an entry and is ignored", bounded_repr(status))
        else:
            self._status = word

    def set_error(self, error_message: str) -> None:
        """Set the error message; the status becomes `error` unless another one is set."""
        self._error = message_of(error_message)

    def __enter__(self) -> Self:
        self._status, self._error, self._call = None, None, None
        try:
            capture = self._capture or TelemetryCapture.shared()
            self._call = CapturedCall(capture, self._skill, self._caller, self._inputs)
        except Exception as problem:  # the outer edge
            self._warn(problem)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        try:
            self._end(exc)
            if self._call is not None and self.entry is not None:
                self._call.keep(self.entry)
        except Exception as problem:  # the outer edge
            self._warn(problem)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        try:
            self._end(exc)
            if self._call is None or self.entry is None:
                return
            if isinstance(exc, GeneratorExit):  # a coroutine that is being closed must not await
                self._call.keep(self.entry, wait=False)
            else:
                await self._call.keep_async(self.entry)
        except Exception as problem:  # the outer edge
            self._warn(problem)

    def _end(self, problem: BaseException | None) -> None:
        """End the run and make the entry."""
        self.entry = None
        if self._call is None:
            return
        if problem is not None:
            self.entry = self._call.fail(problem, self._error)
        else:
            self.entry = self._call.end(self._status or (ERROR if self._error else SUCCESS), self._error)

    def _warn(self, problem: Exception) -> None:
        _log.warning("the capture of %s failed: %s", self._skill, bounded_repr(problem))


def _unpickled(
    kind: type[TelemetryContext], skill: str, caller: str, inputs: dict[str, Any], capture: TelemetryCapture
) -> TelemetryContext:
    """Return what a pickled context becomes; its capture has become one that keeps nothing."""
    return kind(skill, caller, inputs, capture=capture)
