"""`TelemetryContext`: a block of work as an entry and a run (seed 004).

`CapturedCall` is any piece of work while it is captured: an open run, and the entry that is made
when it ends. The decorator uses it too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from opentelemetry import context as otel_context

from otel_agent_telemetry.capture.entry import (
    ERROR,
    JOB_TYPE,
    SUCCESS,
    TIMEOUT,
    Entry,
    known_status,
    message_of,
    name_of,
    plain_inputs,
    run_settings,
    run_status,
)
from otel_agent_telemetry.capture.telemetry_capture import TelemetryCapture
from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.otel.endings import ending_of_exception
from otel_agent_telemetry.status import TIMEOUT as RUN_TIMEOUT
from otel_agent_telemetry.wire import bounded_repr

if TYPE_CHECKING:
    from otel_agent_telemetry.argument_types import TriggerType


class CapturedCall:
    """Begins a run and makes its span current. `end` or `fail` ends it, `keep` adds the entry to the file.

    The run begins with the work, so the run of a process that is killed in between is known
    and is closed as failed. `inputs` must be plain JSON values already. No method raises.
    """

    __slots__ = ("_began_ns", "_caller", "_capture", "_inputs", "_run", "_skill", "_tracked", "run_id")

    def __init__(self, capture: TelemetryCapture, skill: str, caller: str, inputs: dict[str, Any]) -> None:
        self._capture = capture
        self._skill = skill
        self._caller = caller
        self._inputs = inputs
        settings: dict[str, Any] = {"inputs": inputs} if inputs else {}
        self._tracked = capture.client.track_run(skill, JOB_TYPE, cast("TriggerType", caller), **settings)
        self._run = self._tracked.__enter__()
        self.run_id = self._run.run_id
        self._began_ns = time.perf_counter_ns()

    def set_inputs(self, inputs: dict[str, Any]) -> None:
        """Replace the inputs of the run and of the entry; the run has them on return."""
        self._inputs = inputs
        self._run.set_metrics(inputs=inputs)  # type: ignore[call-arg]  # no column: kept in context_json

    def step_out(self) -> BodyContext:
        """Make the span before this one current again; return what makes this one current for a while."""
        inside = BodyContext()
        self._tracked.step_out()
        return inside

    def end(self, status: str, error_message: str | None = None, *, metadata: dict[str, Any] | None = None) -> Entry:
        """End the run with an entry's `status`; return the entry, which is not in the file yet."""
        self._tracked.step_out()
        entry = self._entry(status, error_message, metadata)
        settings = run_settings({**entry, "inputs": None})
        self._capture.client.end_run(self.run_id, run_status(status), **settings)
        return entry

    def fail(self, problem: BaseException, error_message: str | None = None) -> Entry:
        """End the run with an exception; return the entry, which is not in the file yet. Exit code 0 is a success."""
        self._tracked.step_out()
        ending = ending_of_exception(problem)
        status = SUCCESS if ending.summary is None else TIMEOUT if ending.status == RUN_TIMEOUT else ERROR
        entry = self._entry(status, error_message or ending.summary, None)
        self._tracked.__exit__(type(problem), problem, problem.__traceback__)
        return entry

    def keep(self, entry: Entry, *, wait: bool = True) -> None:
        """Add the entry to the file; see `TelemetryCapture.keep`."""
        self._capture.keep(entry, wait=wait)

    async def keep_async(self, entry: Entry) -> None:
        """Add the entry to the file without blocking the event loop; see `TelemetryCapture.keep_async`."""
        await self._capture.keep_async(entry)

    def _entry(self, status: str, error_message: str | None, metadata: dict[str, Any] | None) -> Entry:
        """Return the entry of this block as it ends now."""
        # Not the wall clock, which may be set while the work runs.
        took_ns = time.perf_counter_ns() - self._began_ns
        return {
            "timestamp": iso_utc(self._capture.client._recorder.clock.now_ns()),  # noqa: SLF001 - one package
            "skill": self._skill,
            "status": status,
            "duration_ms": took_ns / 1_000_000,
            "caller": self._caller,
            "inputs": self._inputs,
            "error_message": message_of(error_message),
            "metadata": metadata or {},
            "run_id": self.run_id,
        }


class BodyContext:
    """`with` it, a generator's body runs where it left off: with its run's span current, or one that it made current.

    Outside, between two steps, the consumer has the current span that it had before.
    """

    __slots__ = ("_context", "_token")

    def __init__(self) -> None:
        self._context = otel_context.get_current()

    def __enter__(self) -> None:
        self._token = otel_context.attach(self._context)

    def __exit__(self, *_: object) -> None:
        self._context = otel_context.get_current()
        otel_context.detach(self._token)


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
        """Log that the block could not be captured; never raises."""
        _log.warning("the capture of %s failed: %s", self._skill, bounded_repr(problem))


def _unpickled(
    kind: type[TelemetryContext], skill: str, caller: str, inputs: dict[str, Any], capture: TelemetryCapture
) -> TelemetryContext:
    """Return what a pickled context becomes; its capture has become one that keeps nothing."""
    return kind(skill, caller, inputs, capture=capture)
