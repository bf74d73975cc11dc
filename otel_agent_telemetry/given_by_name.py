"""Immutable objects with many fields that are given by name.

`dataclass` and `NamedTuple` compile methods for each class, at each start of the process: with
fifty fields these take milliseconds. Here the methods are inherited, and type checkers see what
they would see of a `dataclass(frozen=True, kw_only=True)`.
"""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn, dataclass_transform


@dataclass_transform(frozen_default=True, kw_only_default=True)
class GivenByName:
    """Base of such classes: a field is an annotation, its default a value on the class.

    The constructor raises TypeError for a name that is no field and for a field without default
    that is not given.
    """

    _defaults: ClassVar[dict[str, Any]] = {}
    _required: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        names = cls.__annotations__
        cls._defaults = {name: vars(cls)[name] for name in names if name in vars(cls)}
        cls._required = frozenset(names.keys() - cls._defaults.keys())

    def __init__(self, **values: Any) -> None:
        if unknown := values.keys() - self._defaults.keys() - self._required:
            raise TypeError(f"{type(self).__name__} has no {', '.join(sorted(unknown))}")
        if missing := self._required - values.keys():
            raise TypeError(f"{type(self).__name__} needs {', '.join(sorted(missing))}")
        vars(self).update(self._defaults, **values)
        self._complete(vars(self))

    def _complete(self, fields: dict[str, Any]) -> None:
        """Fill fields that follow from others. Called by the constructor."""

    def __setattr__(self, name: str, _value: object) -> NoReturn:
        raise AttributeError(f"{name} of {type(self).__name__} cannot be changed")
