"""A piece of work while it is captured: an open run, and the entry that is made when it ends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from opentelemetry import context as otel_context

from otel_agent_telemetry.capture.entry import (
    ERROR,
    JOB_TYPE,
    SUCCESS,
    TIMEOUT,
    Entry,
    message_of,
    run_settings,
    run_status,
)
from otel_agent_telemetry.capture.telemetry_capture import TelemetryCapture
from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.otel.mapping import ending_of_exception
from otel_agent_telemetry.status import TIMEOUT as RUN_TIMEOUT

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
