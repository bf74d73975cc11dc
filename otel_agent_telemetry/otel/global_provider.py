"""Our tracer provider as the process's global one, until the application sets its own.

OpenTelemetry lets the global provider be set once and refuses every later one. Whoever
records runs must not take that one time from the application: its own telemetry would go
nowhere. So ours stands in without using it up, and hears when the application's comes.

That needs two names that are OpenTelemetry's own (1.39 to 1.45). Where they are missing, ours
is set in the ordinary way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.util._decorator import _agnosticcontextmanager  # also decorates coroutines

_log = logging.getLogger(__name__)
_CURRENT: Final = "_TRACER_PROVIDER"
_ONCE: Final = "_TRACER_PROVIDER_SET_ONCE"


def is_unset() -> bool:
    """Return whether nobody has set a global provider yet."""
    return isinstance(current_provider(), trace.ProxyTracerProvider)


def current_provider() -> trace.TracerProvider:
    """Return the global provider; OpenTelemetry's proxy where OTEL_PYTHON_TRACER_PROVIDER names none that exists."""
    try:
        return trace.get_tracer_provider()
    except Exception:  # OpenTelemetry has logged which
        return trace.ProxyTracerProvider()


def stand_in(provider: Any, on_replaced: Callable[[Any], object]) -> Any:
    """Make `provider` the global one; what stands there for it.

    When the application sets its own, tracers that were got before go over to it too, and
    `on_replaced` is called with it. For a process that has none, see `is_unset`.
    """
    once = getattr(trace, _ONCE, None)
    if not hasattr(trace, _CURRENT) or not hasattr(once, "do_once"):
        trace.set_tracer_provider(provider)
        return provider
    front = _Front(provider)

    def heard(theirs: Any) -> None:
        """Replace the stand-in by the provider that the application sets."""
        on_replaced(theirs)
        front.real = theirs

    setattr(trace, _ONCE, _Watched(once, heard))
    setattr(trace, _CURRENT, front)
    return front


class _Front(trace.TracerProvider):
    """A provider in front of another, which may change."""

    def __init__(self, real: Any) -> None:
        self.real = real

    def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
        """Return a tracer that is always one of the provider behind."""
        return _Tracer(self, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


class _Tracer(trace.Tracer):
    """A tracer of whichever provider is behind the front now."""

    def __init__(self, front: _Front, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._front = front
        self._arguments = (args, kwargs)
        self._of: Any = None
        self._tracer: Any = None

    def _now(self) -> Any:
        """Return the tracer of the provider that is set now."""
        real = self._front.real
        # Two threads may both renew it, with an equal tracer; a lock on each span would cost more.
        if self._of is not real:
            self._tracer, self._of = real.get_tracer(*self._arguments[0], **self._arguments[1]), real
        return self._tracer

    def start_span(self, *args: Any, **kwargs: Any) -> trace.Span:
        """Start a span as the tracer behind does."""
        return self._now().start_span(*args, **kwargs)  # type: ignore[no-any-return]

    @_agnosticcontextmanager
    def start_as_current_span(self, *args: Any, **kwargs: Any) -> Iterator[trace.Span]:
        """Start a span as the tracer behind does."""
        with self._now().start_as_current_span(*args, **kwargs) as span:
            yield span


class _Watched:
    """OpenTelemetry's guard of the one setting, and who wants to hear of it."""

    def __init__(self, once: Any, heard: Callable[[Any], object]) -> None:
        self._once = once
        self._heard = heard

    def do_once(self, func: Callable[[], None]) -> bool:
        """Do what the guard does; whoever wants to hear of it cannot break it."""
        did_set = bool(self._once.do_once(func))
        if did_set:
            try:
                self._heard(getattr(trace, _CURRENT))
            except Exception as problem:  # the outer edge of the application's set_tracer_provider
                _log.warning("runs of the new tracer provider are not recorded: %s", type(problem).__name__)
        return did_set
