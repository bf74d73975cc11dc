"""`capture_telemetry`: calls of a function as entries and runs (seed 004).

The caller gets the function's result and its exceptions, whatever becomes of the entry. A
captured function is of the same kind as the function: `inspect` and `await` see no
difference. Arguments are kept under the names of the function's signature.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import types
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol, TypeVar, overload

from otel_agent_telemetry.capture.context import BodyContext, CapturedCall
from otel_agent_telemetry.capture.entry import SUCCESS, Entry, name_of, outcome_of, plain_inputs
from otel_agent_telemetry.capture.telemetry_capture import TelemetryCapture
from otel_agent_telemetry.wire import bounded_repr

_log = logging.getLogger(__name__)
_CLOSED_EARLY: Final = {"closed_early": True}
_RECEIVERS: Final = ("self", "cls")
_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

F = TypeVar("F")


class Decorator(Protocol):
    """Returns a function with the type that it has."""

    def __call__(self, function: F, /) -> F:
        """Return the captured function."""


@overload
def capture_telemetry(skill_name: F, /) -> F: ...


@overload
def capture_telemetry(
    skill_name: str | None = None,
    caller: str = "runtime",
    capture_inputs: bool = False,  # noqa: FBT002 - the seed's signature
    sanitize_keys: Iterable[str] | None = None,
    *,
    capture: TelemetryCapture | None = None,
) -> Decorator: ...


def capture_telemetry(
    skill_name: Any = None,
    caller: str = "runtime",
    capture_inputs: bool = False,  # noqa: FBT002 - the seed's signature
    sanitize_keys: Iterable[str] | None = None,
    *,
    capture: TelemetryCapture | None = None,
) -> Any:
    """Capture each call of a function: a run while it lasts, an entry when it is over.

        @capture_telemetry("agent.run", caller="CLI", capture_inputs=True, sanitize_keys=["ssn"])
        def run_agent(path: str) -> dict[str, str]: ...

    Takes functions, methods, class and static methods, coroutines, generators and async
    generators (captured from their first step to their last). `skill_name`: default the
    function's name. `capture_inputs`: keep the arguments; values that look like secrets are
    masked, as are those under `sanitize_keys`, at any depth, in any case. A returned dict
    whose `status` is success, failure, timeout, error or pending sets the entry's status; an
    exception makes it `error`, or `timeout`. `capture`: where to, default
    `TelemetryCapture.shared()`.

    A call takes some hundred microseconds more, and waits for the file's lock as
    `TelemetryCapture.capture` does; coroutines do not block the event loop meanwhile.
    """
    if skill_name is not None and not isinstance(skill_name, str):  # without parentheses: the function itself
        return capture_telemetry()(skill_name)
    keys = (sanitize_keys,) if isinstance(sanitize_keys, str) else tuple(sanitize_keys or ())

    def decorate(function: Any) -> Any:
        wrapper = type(function) if isinstance(function, (staticmethod, classmethod)) else None
        inner = function.__func__ if wrapper is not None else function
        if inspect.isclass(inner) or not callable(inner):
            _log.warning("%r is no function and is not captured: decorate the functions in it", function)
            return function
        has_receiver = wrapper is classmethod
        plan = _Plan(
            skill=name_of(skill_name, getattr(inner, "__name__", None) or type(inner).__name__),
            caller=name_of(caller, "runtime"),
            capture=capture,
            arguments=_ArgumentNames(inner, keys, has_receiver=has_receiver) if capture_inputs else None,
        )
        captured = _captured(inner, plan)
        return captured if wrapper is None else wrapper(captured)

    return decorate


@dataclass(frozen=True, slots=True)
class _Plan:
    """How the calls of one function are captured."""

    skill: str
    caller: str
    capture: TelemetryCapture | None
    arguments: _ArgumentNames | None
    """None: the arguments are not kept."""

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Call:
        """Begin capturing a call. Never raises."""
        try:
            inputs = self.arguments.inputs(args, kwargs) if self.arguments is not None else {}
            return _Call(CapturedCall(self.capture or TelemetryCapture.shared(), self.skill, self.caller, inputs))
        except Exception as problem:  # the outer edge
            _warn(f"the capture of {self.skill}", problem)
            return _Call(None)


class _Call:
    """One call, captured as far as possible: the outer edge. No method raises an error of its own.

    `returned`, `raised` and `closed` end the run and make the entry; `keep` adds it to the file.
    """

    __slots__ = ("_captured", "_entry")

    def __init__(self, captured: CapturedCall | None) -> None:
        self._captured = captured
        self._entry: Entry | None = None

    def returned(self, result: object) -> _Call:
        """End the run with what the function returned."""
        return self._end(lambda captured: captured.end(*outcome_of(result)))

    def raised(self, problem: BaseException) -> _Call:
        """End the run with what the function raised."""
        return self._end(lambda captured: captured.fail(problem))

    def closed(self) -> _Call:
        """End the run of a generator that its consumer closed before its end."""
        return self._end(lambda captured: captured.end(SUCCESS, metadata=_CLOSED_EARLY))

    def step_out(self) -> BodyContext:
        """Make the span before the call's current again."""
        return BodyContext() if self._captured is None else self._captured.step_out()

    def _end(self, end: Callable[[CapturedCall], Entry]) -> _Call:
        """Make the entry of the call; a call that could not begin has none."""
        if self._captured is not None:
            try:
                self._entry = end(self._captured)
            except Exception as problem:  # the outer edge
                _warn("ending a captured call", problem)
        return self

    def keep(self, *, wait: bool = True) -> None:
        """Add the entry to the file; blocks on its lock, not at all without `wait`."""
        if self._captured is None or self._entry is None:
            return
        try:
            self._captured.keep(self._entry, wait=wait)
        except Exception as problem:  # the outer edge
            _warn("ending a captured call", problem)

    async def keep_async(self) -> None:
        """Add the entry to the file without blocking the event loop."""
        if self._captured is None or self._entry is None:
            return
        try:
            await self._captured.keep_async(self._entry)
        except Exception as problem:  # the outer edge; CancelledError propagates
            _warn("ending a captured call", problem)


def _warn(action: str, problem: Exception) -> None:
    """Log what went wrong; never raises."""
    with contextlib.suppress(Exception):  # a handler of the application's raises, or no stack is left
        _log.warning("%s failed: %s", action, bounded_repr(problem))


class _ArgumentNames:
    """Names the arguments of one function's calls as its signature does, which is read at the first call."""

    def __init__(self, function: Callable[..., Any], secret_keys: Iterable[str], *, has_receiver: bool) -> None:
        self._function = function
        self._secret_keys = tuple(map(str, secret_keys))
        self._has_receiver = has_receiver

    @cached_property
    def _signature(self) -> inspect.Signature | None:
        """Return the signature of the function; None for one that has none."""
        try:
            return inspect.signature(self._function)
        except (TypeError, ValueError):  # some builtins have none
            return None

    def inputs(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments with defaults, in plain JSON types, secrets masked, bounded; without `self` and `cls`.

        `*args` is a list and `**kwargs` an object, each under its own name. Arguments that do
        not fit the signature, or that have none, are under `args` and `kwargs`.
        """
        return plain_inputs(self._named(args, kwargs), secret_keys=self._secret_keys)

    def _named(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call by their names, with defaults."""
        signature = self._signature
        if signature is None:
            return {name: value for name, value in (("args", args), ("kwargs", kwargs)) if value}
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:  # calling the function will raise it as well
            return self._as_far_as_it_fits(signature, args, kwargs)
        bound.apply_defaults()
        return self._without_receiver(signature, dict(bound.arguments))

    def _as_far_as_it_fits(
        self, signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the arguments of a call that the function will refuse; those beyond its parameters as `args`."""
        names = [name for name, parameter in signature.parameters.items() if parameter.kind in _POSITIONAL]
        named = {**dict(zip(names, args, strict=False)), **kwargs}
        rest = args[len(names) :]
        return self._without_receiver(signature, {**named, "args": rest} if rest else named)

    def _without_receiver(self, signature: inspect.Signature, named: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments without `self` or `cls`, which would be an object of the application in every entry."""
        first = next(iter(signature.parameters.values()), None)
        if first is None or not (self._has_receiver or first.name in _RECEIVERS):
            return named
        if first.kind is inspect.Parameter.VAR_POSITIONAL:
            return {**named, first.name: named[first.name][1:]} if self._has_receiver else named
        named.pop(first.name, None)
        return named


def _captured(function: Callable[..., Any], plan: _Plan) -> Callable[..., Any]:
    """Return the captured function, of the same kind as the function."""
    if inspect.isasyncgenfunction(function):
        return _async_generator(function, plan)
    if inspect.isgeneratorfunction(function):
        generator = _generator(function, plan)
        return types.coroutine(generator) if function.__code__.co_flags & inspect.CO_ITERABLE_COROUTINE else generator
    if inspect.iscoroutinefunction(function):
        return _coroutine(function, plan)
    return _function(function, plan)


def _function(function: Callable[..., Any], plan: _Plan) -> Callable[..., Any]:
    """Return the wrapper of a plain function."""

    @functools.wraps(function)
    def captured(*args: Any, **kwargs: Any) -> Any:
        call = plan.begin(args, kwargs)
        try:
            result = function(*args, **kwargs)
        except BaseException as problem:
            call.raised(problem).keep()
            raise
        call.returned(result).keep()
        return result

    return captured


def _coroutine(function: Callable[..., Any], plan: _Plan) -> Callable[..., Any]:
    """Return the wrapper of a coroutine function. Its entry is written without blocking the event loop."""

    @functools.wraps(function)
    async def captured(*args: Any, **kwargs: Any) -> Any:
        call = plan.begin(args, kwargs)
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


def _generator(function: Callable[..., Any], plan: _Plan) -> Callable[..., Any]:
    """Return the wrapper of a generator function: the call lasts until the generator ends or is closed."""

    @functools.wraps(function)
    def captured(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        # Between two steps the consumer's own span must be current, not this call's: hence `step_out` at once.
        call = plan.begin(args, kwargs)
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
            step = functools.partial(body.throw, thrown)
        else:
            step = functools.partial(body.send, sent)


def _async_generator(function: Callable[..., Any], plan: _Plan) -> Callable[..., Any]:
    """Return the wrapper of an asynchronous generator function, which lasts as a generator does."""

    @functools.wraps(function)
    async def captured(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        call = plan.begin(args, kwargs)
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
