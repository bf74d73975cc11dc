"""`track_run`'s context manager, and the handle that its block works with.

Neither knows the client: it hands in the functions that begin, update and end a run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

from opentelemetry import context as otel_context
from opentelemetry import trace

from otel_agent_telemetry.recording.active_runs import ActiveRun

if TYPE_CHECKING:
    from otel_agent_telemetry.argument_types import UpdateSettings

LogEvent = Callable[[str, str, Mapping[str, Any] | None], None]
"""Keeps an event of a run: run id, event type, payload."""
SetMetrics = Callable[[str, Mapping[str, Any]], None]
"""Sets columns of a run: run id, columns."""

_entered: ContextVar[None] = ContextVar("agent-telemetry-block")
"""Set while a block is entered, to find out whether it is left in the context in which it was entered."""


class RunContext:
    """The handle of a run inside `track_run`. No method raises or blocks.

    Entering `track_run` returns it:

        with client.track_run("my_agent", "process_files") as run:
            run.log_event("checkpoint", {"step": 1})
            run.set_metrics(items_discovered=10, items_succeeded=10)

    A copy is the handle itself; a pickled one records nothing where it is unpickled.
    """

    def __init__(self, run_id: str, log_event: LogEvent, set_metrics: SetMetrics) -> None:
        self.run_id = run_id
        """The run's id: the custom one if it was accepted, else a generated one."""
        self._log_event = log_event
        self._set_metrics = set_metrics

    def __copy__(self) -> RunContext:
        return self

    def __deepcopy__(self, _memo: object) -> RunContext:
        return self

    def log_event(self, event_type: str, payload: Mapping[str, Any] | None = None) -> None:
        """Keep an event; on return it survives the death of the process."""
        self._log_event(self.run_id, event_type, payload)

    def set_metrics(self, **metrics: Unpack[UpdateSettings]) -> None:
        """Set columns of the run by name; other names go to `context_json`. Kept on return.

        `status=` is the status that the run gets when its block ends normally, such as `partial`.
        """
        self._set_metrics(self.run_id, metrics)

    def __repr__(self) -> str:
        return f"RunContext(run_id={self.run_id!r})"


class TrackedRun:
    """`with` or `async with`: begins a run, makes its span current, ends the run with the block.

    `begin` starts the run and returns its handle, and the run itself unless recording is off
    or failed. `end` ends it, with the block's exception if there is one. An exception of the
    block makes the run `failed`, `timeout` or `cancelled` and propagates, `BaseException`
    included. Used once.
    """

    def __init__(
        self,
        begin: Callable[[], tuple[RunContext, ActiveRun | None]],
        end: Callable[[ActiveRun, BaseException | None], None],
    ) -> None:
        self._begin = begin
        self._end = end
        self._run: ActiveRun | None = None
        self._attached: tuple[Token[otel_context.Context], Token[None]] | None = None

    def __copy__(self) -> TrackedRun:
        return self

    def __deepcopy__(self, _memo: object) -> TrackedRun:
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to this process: the open run, and the context that it is current in."""
        return {**vars(self), "_run": None, "_attached": None}

    def __enter__(self) -> RunContext:
        handle, self._run = self._begin()
        if self._run is not None and self._run.span is not None:
            self._attached = otel_context.attach(trace.set_span_in_context(self._run.span)), _entered.set(None)
        return handle

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.step_out()
        if self._run is not None:
            self._end(self._run, exc)

    def step_out(self) -> None:
        """Make the span before the block's current again; the run stays open. Idempotent."""
        attached, self._attached = self._attached, None
        if attached is not None:
            _detach(*attached)

    async def __aenter__(self) -> RunContext:
        return self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.__exit__(exc_type, exc, tb)


def _detach(span: Token[otel_context.Context], entered: Token[None]) -> None:
    """Restore the context of before the block, whatever the block attached and did not detach."""
    # A framework may leave the block in another context than it entered it (an async generator's finalizer):
    # that context's current span is not ours to change, and OpenTelemetry would log an error for the attempt.
    try:
        _entered.reset(entered)
    except ValueError:
        return
    otel_context.detach(span)
