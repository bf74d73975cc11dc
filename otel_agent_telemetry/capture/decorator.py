"""`capture_telemetry`: calls of a function as entries and runs (seed 004).

The caller gets the function's result and its exceptions, whatever becomes of the entry.
Arguments are kept under the names of the function's signature. How each kind of function is
wrapped is in `wrappers`.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol, TypeVar, overload

from otel_agent_telemetry.capture.context import CapturedCall
from otel_agent_telemetry.capture.entry import name_of, plain_inputs
from otel_agent_telemetry.capture.telemetry_capture import TelemetryCapture
from otel_agent_telemetry.capture.wrappers import Call, warn, wrapped

_log = logging.getLogger(__name__)
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
        # `@capture_telemetry` above a function: Python hands it in as the first argument.
        return capture_telemetry()(skill_name)
    keys = (sanitize_keys,) if isinstance(sanitize_keys, str) else tuple(sanitize_keys or ())

    return functools.partial(
        _decorate, skill_name=skill_name, caller=caller, secret_keys=keys if capture_inputs else None, capture=capture
    )


def _decorate(
    function: Any,
    *,
    skill_name: str | None,
    caller: str,
    secret_keys: tuple[str, ...] | None,
    capture: TelemetryCapture | None,
) -> Any:
    """Return the captured function, in the same `staticmethod` or `classmethod`; a class or a value unchanged.

    `secret_keys`: names of arguments to mask beside those that look like secrets; None keeps no arguments.
    """
    # Above `@staticmethod` the decorator gets the descriptor, which is not callable before it is bound.
    wrapper = type(function) if isinstance(function, (staticmethod, classmethod)) else None
    inner = function.__func__ if wrapper is not None else function
    if inspect.isclass(inner) or not callable(inner):
        _log.warning("%r is no function and is not captured: decorate the functions in it", function)
        return function
    arguments = None
    if secret_keys is not None:
        arguments = _ArgumentNames(inner, secret_keys, has_receiver=wrapper is classmethod)
    skill = name_of(skill_name, getattr(inner, "__name__", None) or type(inner).__name__)
    plan = _Plan(skill=skill, caller=name_of(caller, "runtime"), capture=capture, arguments=arguments)
    captured = wrapped(inner, plan.begin)
    return captured if wrapper is None else wrapper(captured)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How the calls of one function are captured."""

    skill: str
    caller: str
    capture: TelemetryCapture | None
    arguments: _ArgumentNames | None
    """None: the arguments are not kept."""

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """Begin capturing a call. Never raises."""
        try:
            inputs = self.arguments.inputs(args, kwargs) if self.arguments is not None else {}
            return Call(CapturedCall(self.capture or TelemetryCapture.shared(), self.skill, self.caller, inputs))
        except Exception as problem:  # the outer edge
            warn(f"the capture of {self.skill}", problem)
            return Call(None)


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
