"""A call's arguments under the names that the function's signature gives them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, Final

from otel_agent_telemetry.capture.entry import plain_inputs

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
