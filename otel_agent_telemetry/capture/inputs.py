"""A call's arguments under the names that the function's signature gives them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, Final

from otel_agent_telemetry.capture.entry import plain_inputs

_RECEIVERS: Final = ("self", "cls")


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

        `*args` is a list and `**kwargs` an object, each under its own name. A call that does
        not fit the signature has its arguments as `args` and `kwargs`.
        """
        return plain_inputs(self._named(args, kwargs), secret_keys=self._secret_keys)

    def _named(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        signature = self._signature
        try:
            bound = signature.bind(*args, **kwargs) if signature is not None else None
        except TypeError:  # the function will say so itself
            bound = None
        if bound is None:
            return {name: value for name, value in (("args", args), ("kwargs", kwargs)) if value}
        bound.apply_defaults()
        named = dict(bound.arguments)
        first = next(iter(named), "")
        if self._has_receiver or first in _RECEIVERS:
            named.pop(first, None)
        return named
