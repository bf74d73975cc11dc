"""Our tracer provider as the process's global one, until the application sets its own.

OpenTelemetry lets the global provider be set once and refuses every later one. Whoever
records runs must not take that one time from the application: its own telemetry would go
nowhere. So ours stands in without using it up, and hears when the application's comes.

That needs two names that are OpenTelemetry's own (1.39 to 1.45). Where they are missing, ours
is set in the ordinary way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from opentelemetry import trace

_log = logging.getLogger(__name__)
_CURRENT: Final = "_TRACER_PROVIDER"
_ONCE: Final = "_TRACER_PROVIDER_SET_ONCE"


def is_unset() -> bool:
    """Whether nobody has set a global provider yet."""
    return isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def stand_in(provider: Any, on_replaced: Callable[[Any], object]) -> None:
    """Make `provider` the global one. `on_replaced` gets the provider that the application sets later.

    For a process that has none, see `is_unset`.
    """
    once = getattr(trace, _ONCE, None)
    if not hasattr(trace, _CURRENT) or not hasattr(once, "do_once"):
        trace.set_tracer_provider(provider)
        return
    setattr(trace, _ONCE, _Watched(once, on_replaced))
    setattr(trace, _CURRENT, provider)


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
