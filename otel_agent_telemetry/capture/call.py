"""A piece of work while it is captured: a run that is open, and the entry that it becomes."""

from __future__ import annotations

import time
from typing import Any

from opentelemetry import context as otel_context

from otel_agent_telemetry.capture.entry import ERROR, JOB_TYPE, SUCCESS, TIMEOUT, message_of, run_status, told_of
from otel_agent_telemetry.capture.telemetry_capture import TelemetryCapture
from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.otel.mapping import ending_of_exception
from otel_agent_telemetry.status import TIMEOUT as RUN_TIMEOUT


class CapturedCall:
    """Begins a run and makes its span current; `end` or `fail` end it and keep the entry.

    So a process that is killed in between has the run, and who delivers its runs closes it.
    `inputs` are plain already. No method raises.
    """

    __slots__ = ("_began_ns", "_caller", "_capture", "_handle", "_inputs", "_skill", "_tracked", "run_id")

    def __init__(self, capture: TelemetryCapture, skill: str, caller: str, inputs: dict[str, Any]) -> None:
        self._capture = capture
        self._skill = skill
        self._caller = caller
        self._inputs = inputs
        told = {"inputs": inputs} if inputs else {}
        self._tracked = capture.client.track_run(skill, JOB_TYPE, caller, **told)
        self._handle = self._tracked.__enter__()
        self.run_id = self._handle.run_id
        self._began_ns = time.perf_counter_ns()

    def set_inputs(self, inputs: dict[str, Any]) -> None:
        """What the work was given, known only now; on return the run has it."""
        self._inputs = inputs
        self._handle.set_metrics(inputs=inputs)

    def step_out(self) -> Inside:
        """Make current again what was so before; gives what makes the run's span current for a while."""
        inside = Inside()
        self._tracked.step_out()
        return inside

    def end(
        self, status: str, error_message: str | None = None, *, metadata: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """The work is over, as `status` says; returns the entry."""
        self._tracked.step_out()
        entry = self._entry(status, error_message, metadata)
        told = told_of({**entry, "inputs": None})
        self._capture.client.end_run(self.run_id, run_status(status), **told)
        self._capture.keep(entry, self.run_id)
        return entry

    def fail(self, problem: BaseException, error_message: str | None = None) -> dict[str, Any]:
        """The work raised; returns the entry. Leaving with exit code 0 is a success."""
        self._tracked.step_out()
        ending = ending_of_exception(problem)
        status = SUCCESS if ending.summary is None else TIMEOUT if ending.status == RUN_TIMEOUT else ERROR
        entry = self._entry(status, error_message or ending.summary, None)
        self._tracked.__exit__(type(problem), problem, problem.__traceback__)
        self._capture.keep(entry, self.run_id)
        return entry

    def _entry(self, status: str, error_message: str | None, metadata: dict[str, Any] | None) -> dict[str, Any]:
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
        }


class Inside:
    """`with` it, a generator's body runs where it left off: in its run's span, or one that it made current.

    Outside, between two steps, the consumer sees what it saw before.
    """

    __slots__ = ("_context", "_token")

    def __init__(self) -> None:
        self._context = otel_context.get_current()

    def __enter__(self) -> None:
        self._token = otel_context.attach(self._context)

    def __exit__(self, *_: object) -> None:
        self._context = otel_context.get_current()
        otel_context.detach(self._token)
