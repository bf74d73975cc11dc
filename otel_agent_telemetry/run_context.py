"""What `track_run` gives: a context manager, and the handle that the block works with."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

from opentelemetry import context as otel_context
from opentelemetry import trace

if TYPE_CHECKING:
    from otel_agent_telemetry.argument_types import UpdateSettings
    from otel_agent_telemetry.client import TelemetryClient
    from otel_agent_telemetry.recording.active_runs import ActiveRun


_entered: ContextVar[None] = ContextVar("agent-telemetry-block")
"""Tells whether a block is left in the context in which it was entered; OpenTelemetry would log an error."""


def _detach(span: Token[otel_context.Context], entered: Token[None]) -> None:
    """Make current again what was so before the block, whatever the block attached and forgot."""
    try:
        _entered.reset(entered)
    except ValueError:  # another context, a framework's: its current span is not ours to change
        return
    otel_context.detach(span)


class RunContext:
    """The handle of a run inside `track_run`. No method raises, waits or blocks."""

    def __init__(self, client: TelemetryClient, run_id: str) -> None:
        self._client = client
        self.run_id = run_id
        """The id that the run has: the custom one if it was accepted, else the generated one."""

    def log_event(self, event_type: str, payload: Mapping[str, Any] | None = None) -> None:
        """Keep an event; on return it survives the death of the process."""
        self._client.log_event(self.run_id, event_type, payload)

    def set_metrics(self, **metrics: Unpack[UpdateSettings]) -> None:
        """Set columns of the run by name; other names go to `context_json`. Kept on return.

        `status=` is what the run ends as when its block ends normally, such as `partial`.
        """
        self._client._set_metrics(self.run_id, metrics)  # noqa: SLF001 - the handle is the client's own

    def __repr__(self) -> str:
        return f"RunContext(run_id={self.run_id!r})"


class TrackedRun:
    """`with` or `async with`: starts a run, makes its span current, ends it with the block.

    An exception of the block ends the run (`failed`, `timeout` or `cancelled`) and goes on
    its way, `BaseException` included. Used once.
    """

    def __init__(
        self,
        client: TelemetryClient,
        agent_name: str,
        job_type: str,
        trigger_type: str,
        kwargs: Mapping[str, Any],
    ) -> None:
        self._client = client
        self._asked = (agent_name, job_type, trigger_type, kwargs)
        self._run: ActiveRun | None = None
        self._attached: tuple[Token[otel_context.Context], Token[None]] | None = None

    def __enter__(self) -> RunContext:
        run_id, self._run = self._client._begin(*self._asked)  # noqa: SLF001 - one object in two files
        if self._run is not None and self._run.span is not None:
            self._attached = otel_context.attach(trace.set_span_in_context(self._run.span)), _entered.set(None)
        return RunContext(self._client, run_id)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.step_out()
        if self._run is not None:
            self._client._finish(self._run, exc)  # noqa: SLF001 - see __enter__

    def step_out(self) -> None:
        """Make current again what was so before; the run stays open. Idempotent."""
        attached, self._attached = self._attached, None
        if attached is not None:
            _detach(*attached)

    async def __aenter__(self) -> RunContext:
        return self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.__exit__(exc_type, exc, tb)
