"""The outer edge of the client: no public method raises, and failures are printed to stderr (contract, "Client")."""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from otel_agent_telemetry.wire import bounded_repr

_log = logging.getLogger("otel_agent_telemetry.client")

P = ParamSpec("P")
T = TypeVar("T")


def never_raises(tag: str, fallback: T) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a decorator for public methods: an error inside is printed to stderr, and `fallback` returned."""

    def decorate(method: Callable[P, T]) -> Callable[P, T]:
        """Return the method, returning the fallback where it raises."""

        @functools.wraps(method)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return method(*args, **kwargs)
            except Exception as problem:  # the outer edge
                report(tag, method.__name__, problem)
                return fallback

        return guarded

    return decorate


def report(tag: str, action: str, problem: BaseException) -> None:
    """Print that an action failed, and why; the stack goes to the log at DEBUG."""
    print_line(f"[{tag}] Telemetry {action} failed: {bounded_repr(problem)}")
    with contextlib.suppress(Exception):  # see `print_line`
        _log.debug("%s failed", action, exc_info=problem)


def print_line(sentence: str) -> None:
    """Print to stderr, or to the log where there is none."""
    try:
        print(sentence, file=sys.stderr)  # noqa: T201 - contract, decision 10
    except (OSError, ValueError, AttributeError):  # stderr is closed, broken or None, as under pythonw
        # A handler of the application may write to the same closed stream, and raise.
        with contextlib.suppress(Exception):
            _log.warning("%s", sentence)
