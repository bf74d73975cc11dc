"""Wrap a function so that each of its calls is captured, whatever kind of function it is.

A wrapper is of the same kind as the function: a coroutine function stays one, a generator function yields what it
yielded, in the same steps. A plain call and a coroutine's last from call to return; a generator's from its first step
to its last, or until its consumer closes it. What to capture is decided by `decorator`.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import types
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, Final

from otel_agent_telemetry.capture.context import BodyContext, CapturedCall
from otel_agent_telemetry.capture.entry import SUCCESS, Entry, outcome_of
from otel_agent_telemetry.wire import bounded_repr

_log = logging.getLogger(__name__)
_CLOSED_EARLY: Final = {"closed_early": True}


class Call:
    """One call, captured as far as possible: the outer edge. No method raises an error of its own.

    `returned`, `raised` and `closed` end the run and make the entry; `keep` adds it to the file.
    """

    __slots__ = ("_captured", "_entry")

    def __init__(self, captured: CapturedCall | None) -> None:
        self._captured = captured
        self._entry: Entry | None = None

    def returned(self, result: object) -> Call:
        """End the run with what the function returned."""
        return self._end(lambda captured: captured.end(*outcome_of(result)))

    def raised(self, problem: BaseException) -> Call:
        """End the run with what the function raised."""
        return self._end(lambda captured: captured.fail(problem))

    def closed(self) -> Call:
        """End the run of a generator that its consumer closed before its end."""
        return self._end(lambda captured: captured.end(SUCCESS, metadata=_CLOSED_EARLY))

    def step_out(self) -> BodyContext:
        """Make the span before the call's current again."""
        return BodyContext() if self._captured is None else self._captured.step_out()

    def _end(self, end: Callable[[CapturedCall], Entry]) -> Call:
        """Make the entry of the call; a call that could not begin has none."""
        if self._captured is not None:
            try:
                self._entry = end(self._captured)
            except Exception as problem:  # the outer edge
                warn("ending a captured call", problem)
        return self

    def keep(self, *, wait: bool = True) -> None:
        """Add the entry to the file; blocks on its lock, not at all without `wait`."""
        if self._captured is None or self._entry is None:
            return
        try:
            self._captured.keep(self._entry, wait=wait)
        except Exception as problem:  # the outer edge
            warn("ending a captured call", problem)

    async def keep_async(self) -> None:
        """Add the entry to the file without blocking the event loop."""
        if self._captured is None or self._entry is None:
            return
        try:
            await self._captured.keep_async(self._entry)
        except Exception as problem:  # the outer edge; CancelledError propagates
            warn("ending a captured call", problem)


def warn(action: str, problem: Exception) -> None:
    """Log what went wrong; never raises."""
    with contextlib.suppress(Exception):  # a handler of the application's raises, or no stack is left
        _log.warning("%s failed: %s", action, bounded_repr(problem))


Begin = Callable[[tuple[Any, ...], dict[str, Any]], Call]
"""Begins capturing a call with these positional and keyword arguments. Never raises."""


def wrapped(function: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    """Return the captured function, of the same kind as the function.

    `begin` is called once for each call, before the function's body runs. `inspect.signature`, `__wrapped__` and
    `iscoroutinefunction` see no difference.
    """
    # An asynchronous generator function first: it is no coroutine function, but it is no plain function either.
    if inspect.isasyncgenfunction(function):
        return _async_generator(function, begin)
    if inspect.isgeneratorfunction(function):
        generator = _generator(function, begin)
        # A coroutine from before `async def`: `await` accepts a generator only with the flag of `types.coroutine`.
        return types.coroutine(generator) if function.__code__.co_flags & inspect.CO_ITERABLE_COROUTINE else generator
    if inspect.iscoroutinefunction(function):
        return _coroutine(function, begin)
    return _function(function, begin)


def _function(function: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    """Return the wrapper of a plain function."""

    @functools.wraps(function)
    def captured(*args: Any, **kwargs: Any) -> Any:
        call = begin(args, kwargs)
        try:
            result = function(*args, **kwargs)
        except BaseException as problem:  # KeyboardInterrupt and SystemExit end the run, too
            call.raised(problem).keep()
            raise
        call.returned(result).keep()
        return result

    return captured


def _coroutine(function: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    """Return the wrapper of a coroutine function. Its entry is written without blocking the event loop."""

    @functools.wraps(function)
    async def captured(*args: Any, **kwargs: Any) -> Any:
        call = begin(args, kwargs)
        try:
            result = await function(*args, **kwargs)
        except GeneratorExit as problem:
            call.raised(problem).keep(wait=False)  # a coroutine that is being closed must not await
            raise
        except BaseException as problem:
            await call.raised(problem).keep_async()
            raise
        await call.returned(result).keep_async()
        return result

    return captured


def _generator(function: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    """Return the wrapper of a generator function: the call lasts until the generator ends or is closed."""

    @functools.wraps(function)
    def captured(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        # Between two steps the consumer's own span must be current, not this call's: hence `step_out` at once.
        call = begin(args, kwargs)
        inside = call.step_out()
        try:
            result = yield from _steps(function(*args, **kwargs), inside)
        except GeneratorExit:
            # The consumer took what it wanted, such as the first match: closing a generator is no failure.
            call.closed().keep()
            raise
        except BaseException as problem:
            call.raised(problem).keep()
            raise
        call.returned(result).keep()
        return result

    return captured


def _steps(body: Generator[Any, Any, Any], inside: BodyContext) -> Generator[Any, Any, Any]:
    """`yield from body`, with `inside` current only while the body runs (PEP 380)."""
    step = functools.partial(next, body)
    while True:
        try:
            with inside:
                items = [step()]
        except StopIteration as stop:
            return stop.value
        try:
            sent = yield items.pop()  # nothing here keeps it alive meanwhile
        except GeneratorExit:
            with inside:
                body.close()
            raise
        except BaseException as thrown:
            # What the consumer throws in goes on into the body, which may catch it and yield on (PEP 342).
            step = functools.partial(body.throw, thrown)
        else:
            step = functools.partial(body.send, sent)


def _async_generator(function: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    """Return the wrapper of an asynchronous generator function, which lasts as a generator does."""

    @functools.wraps(function)
    async def captured(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        call = begin(args, kwargs)
        inside = call.step_out()
        try:
            body = function(*args, **kwargs)
            step = body.__anext__
            # PEP 525 has no `yield from`: each step, and what the consumer sends or throws, is passed on by hand.
            while True:
                try:
                    with inside:
                        items = [await step()]
                except StopAsyncIteration:
                    break
                try:
                    sent = yield items.pop()
                except GeneratorExit:
                    # The body's `finally` blocks run here, as a part of the call, so with its span current.
                    with inside:
                        await body.aclose()
                    raise
                except BaseException as thrown:
                    step = functools.partial(body.athrow, thrown)
                else:
                    step = functools.partial(body.asend, sent)
        except GeneratorExit:
            await call.closed().keep_async()
            raise
        except BaseException as problem:
            await call.raised(problem).keep_async()
            raise
        await call.returned(None).keep_async()

    return captured
