"""`capture_telemetry`: calls of a function as entries and runs (seed 004).

The function's result and its exceptions are its caller's, whatever becomes of the entry.
Each kind of function stays what it was: `inspect` and `await` see the kind that was written.

A call's arguments under the names that the function's signature gives them.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import types
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping
from functools import cached_property
from typing import Any, Final, Protocol, TypeVar, overload

from otel_agent_telemetry.capture.call import CapturedCall, Inside
from otel_agent_telemetry.capture.entry import SUCCESS, name_of, plain_inputs, verdict_of
from otel_agent_telemetry.capture.telemetry_capture import TelemetryCapture
from otel_agent_telemetry.wire import bounded_repr

_RECEIVERS: Final = ("self", "cls")
_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class ArgumentNames:
    """Names the arguments of calls of one function. The signature is read at the first call."""

    def __init__(self, function: Callable[..., Any], *, secret_keys: Iterable[str], has_receiver: bool = False) -> None:
        self._function = function
        self._secret_keys = tuple(map(str, secret_keys))
        self._has_receiver = has_receiver

    @cached_property
    def _signature(self) -> inspect.Signature | None:
        try:
            return inspect.signature(self._function)
        except (TypeError, ValueError):  # a builtin that tells none
            return None

    def inputs(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments with defaults, in plain JSON types, secrets masked, bounded; without `self` and `cls`.

        `*args` is a list and `**kwargs` an object, each under its own name. What does not fit
        the signature, or has none, is under `args` and `kwargs`.
        """
        return plain_inputs(self._named(args, kwargs), secret_keys=self._secret_keys)

    def _named(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        signature = self._signature
        if signature is None:
            return {name: value for name, value in (("args", args), ("kwargs", kwargs)) if value}
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:  # the function will say so itself
            return self._as_far_as_it_fits(signature, args, kwargs)
        bound.apply_defaults()
        return self._without_receiver(signature, dict(bound.arguments))

    def _as_far_as_it_fits(
        self, signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> dict[str, Any]:
        names = [name for name, parameter in signature.parameters.items() if parameter.kind in _POSITIONAL]
        named = {**dict(zip(names, args, strict=False)), **kwargs}
        rest = args[len(names) :]
        return self._without_receiver(signature, {**named, "args": rest} if rest else named)

    def _without_receiver(self, signature: inspect.Signature, named: dict[str, Any]) -> dict[str, Any]:
        first = next(iter(signature.parameters.values()), None)
        if first is None or not (self._has_receiver or first.name in _RECEIVERS):
            return named
        if first.kind is inspect.Parameter.VAR_POSITIONAL:
            return {**named, first.name: named[first.name][1:]} if self._has_receiver else named
        named.pop(first.name, None)
        return named


_log = logging.getLogger(__name__)
_CLOSED_EARLY = {"closed_early": True}

F = TypeVar("F")


class Decorator(Protocol):
    """Gives a function back with the type that it has."""

    def __call__(self, function: F, /) -> F:
        """The function, captured."""


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

    For functions, methods, class and static methods, coroutines, generators and async
    generators (from their first step to their last). `skill_name`: default the function's
    name. `capture_inputs`: keep the arguments, with what looks like a secret masked, and
    what `sanitize_keys` name, at any depth, in any case. A returned dict whose `status` is
    success, failure, timeout, error or pending sets the entry's; what is raised is `error`,
    or `timeout`. `capture`: where to, default `TelemetryCapture.shared()`. A call costs some
    hundred microseconds and never waits.
    """
    if skill_name is not None and not isinstance(skill_name, str):  # without parentheses: the function itself
        return capture_telemetry()(skill_name)
    keys = (sanitize_keys,) if isinstance(sanitize_keys, str) else tuple(sanitize_keys or ())

    def decorate(function: Any) -> Any:
        around = type(function) if isinstance(function, (staticmethod, classmethod)) else None
        inner = function.__func__ if around is not None else function
        if inspect.isclass(inner) or not callable(inner):
            _log.warning("%r is a class or no function: decorate functions; its use is not captured", function)
            return function
        plan = _Plan(inner, skill_name, caller, capture, has_receiver=around is classmethod)
        captured = _captured(inner, plan.with_inputs(keys) if capture_inputs else plan)
        return captured if around is None else around(captured)

    return decorate


class _Plan:
    """How the calls of one function are captured."""

    def __init__(
        self,
        function: Callable[..., Any],
        skill_name: object,
        caller: object,
        capture: TelemetryCapture | None,
        *,
        has_receiver: bool = False,
    ) -> None:
        self._function = function
        self._skill = name_of(skill_name, getattr(function, "__name__", None) or type(function).__name__)
        self._caller = name_of(caller, "runtime")
        self._capture = capture
        self._has_receiver = has_receiver
        self._arguments: ArgumentNames | None = None

    def with_inputs(self, secret_keys: Iterable[str]) -> _Plan:
        """The plan, with arguments kept."""
        self._arguments = ArgumentNames(self._function, secret_keys=secret_keys, has_receiver=self._has_receiver)
        return self

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Call:
        """A call begins. Never raises."""
        try:
            inputs = self._arguments.inputs(args, kwargs) if self._arguments is not None else {}
            return _Call(CapturedCall(self._capture or TelemetryCapture.shared(), self._skill, self._caller, inputs))
        except Exception as problem:  # the outer edge
            _tell(f"the capture of {self._skill}", problem)
            return _Call(None)


class _Call:
    """One call, captured as far as possible: the outer edge. No method raises."""

    __slots__ = ("_captured",)

    def __init__(self, captured: CapturedCall | None) -> None:
        self._captured = captured

    def returned(self, result: object) -> None:
        """The function returned."""
        self._guarded(lambda captured: captured.end(*verdict_of(result)))

    def raised(self, problem: BaseException) -> None:
        """The function raised."""
        self._guarded(lambda captured: captured.fail(problem))

    def closed(self) -> None:
        """The generator's consumer wants no more of it."""
        self._guarded(lambda captured: captured.end(SUCCESS, metadata=_CLOSED_EARLY))

    def step_out(self) -> Inside:
        """Make current again what was so before the call."""
        return Inside() if self._captured is None else self._captured.step_out()

    def _guarded(self, finish: Callable[[CapturedCall], Any]) -> None:
        if self._captured is None:
            return
        try:
            finish(self._captured)
        except Exception as problem:  # the outer edge
            _tell("ending a captured call", problem)


def _tell(what: str, problem: Exception) -> None:
    with contextlib.suppress(Exception):  # a handler of the application's, or no stack left
        _log.warning("%s failed: %s", what, bounded_repr(problem))


def _captured(function: Callable[..., Any], plan: _Plan) -> Callable[..., Any]:
    """The function in its own kind, captured."""
    if inspect.isasyncgenfunction(function):
        return _async_generator(function, plan)
    if inspect.isgeneratorfunction(function):
        generator = _generator(function, plan)
        return types.coroutine(generator) if function.__code__.co_flags & inspect.CO_ITERABLE_COROUTINE else generator
    if inspect.iscoroutinefunction(function):
        return _coroutine(function, plan)
    return _function(function, plan)


def _function(function: Callable[..., Any], plan: _Plan) -> Callable[..., Any]:
    @functools.wraps(function)
    def captured(*args: Any, **kwargs: Any) -> Any:
        call = plan.begin(args, kwargs)
        try:
            result = function(*args, **kwargs)
        except BaseException as problem:
            call.raised(problem)
            raise
        call.returned(result)
        return result

    return captured


def _coroutine(function: Callable[..., Any], plan: _Plan) -> Callable[..., Any]:
    @functools.wraps(function)
    async def captured(*args: Any, **kwargs: Any) -> Any:
        call = plan.begin(args, kwargs)
        try:
            result = await function(*args, **kwargs)
        except BaseException as problem:
            call.raised(problem)
            raise
        call.returned(result)
        return result

    return captured


def _generator(function: Callable[..., Any], plan: _Plan) -> Callable[..., Any]:
    @functools.wraps(function)
    def captured(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        call = plan.begin(args, kwargs)
        inside = call.step_out()
        try:
            result = yield from _steps(function(*args, **kwargs), inside)
        except GeneratorExit:
            call.closed()
            raise
        except BaseException as problem:
            call.raised(problem)
            raise
        call.returned(result)
        return result

    return captured


def _steps(body: Generator[Any, Any, Any], inside: Inside) -> Generator[Any, Any, Any]:
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
    @functools.wraps(function)
    async def captured(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        call = plan.begin(args, kwargs)
        inside = call.step_out()
        try:
            body = function(*args, **kwargs)
            step = body.__anext__
            while True:
                try:
                    with inside:
                        items = [await step()]
                except StopAsyncIteration:
                    break
                try:
                    sent = yield items.pop()
                except GeneratorExit:
                    with inside:
                        await body.aclose()
                    raise
                except BaseException as thrown:
                    step = functools.partial(body.athrow, thrown)
                else:
                    step = functools.partial(body.asend, sent)
        except GeneratorExit:
            call.closed()
            raise
        except BaseException as problem:
            call.raised(problem)
            raise
        call.returned(None)

    return captured
