"""Functions that are generated for names and types of values: they check and encode plain values without a loop.

What an application records has the same names and types again and again. For those, a function
is written as text and compiled once, as `dataclasses` does: each value is a local variable, and
the JSON comes from one dict display. Names stand in the text as literals (`repr`), values never.

A function returns None for values that it is not right for (another type, a text with the sign
of a secret, a text that is perhaps content): those go the long way, which gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from otel_agent_telemetry.secret_patterns import is_harmless, known_harmless

MAX_VALUES: Final = 256
"""With more values than this nothing is generated: compiling takes time in proportion."""
PLAIN_TYPES: Final = frozenset({str, int, float, bool})
"""The types that JSON writes as they are. Subclasses are not among them: their methods are the application's."""

PayloadEncoder = Callable[[dict[str, Any]], bytes | None]
"""Returns the JSON of attributes that have the names the function was generated for."""


class PlainValues:
    """The values of a mapping as local variables of a generated function: checked as far as they are needed.

    `mapping`: the function's parameter. `like`: a mapping with the same names in the same order, and values of
    the same types.
    """

    def __init__(self, mapping: str, like: Mapping[str, Any]) -> None:
        self._mapping = mapping
        self._types = {name: type(value) for name, value in like.items()}
        self._variables = {name: f"{mapping}_{number}" for number, name in enumerate(like)}
        self._needed: dict[str, str] = {}

    def variable(self, name: str) -> str:
        """Return the variable of the value under a name, which is needed then."""
        return self._needed.setdefault(name, self._variables[name])

    def type_of(self, name: str) -> type:
        """Return the type of the value under a name."""
        return self._types[name]

    def reading(self) -> list[str]:
        """Return the statement that gives the variables their values."""
        together = "".join(f"{variable}, " for variable in self._variables.values())
        return [f"{together}= {self._mapping}.values()"] if self._needed else []

    def of_same_types(self) -> list[str]:
        """Return the conditions that the values which are needed have the types."""
        # One by one: the interpreter has an instruction for `type(…)`, a third of the cost of `map(type, …)`.
        return [f"type({variable}) is {self._types[name].__name__}" for name, variable in self._needed.items()]

    def texts(self) -> list[str]:
        """Return the variables that are needed and are texts."""
        return [variable for name, variable in self._needed.items() if self._types[name] is str]


def payload_encoder(
    like: Mapping[str, Any],
    otherwise: PayloadEncoder,
    *,
    short: Iterable[str] = (),
    max_length: int = 0,
    opening: Collection[str] = (),
) -> PayloadEncoder:
    """Return a function that encodes attributes with the names of these and values of the same types.

    It returns None where a text has the sign of a secret, or where JSON has no form for a value. Values of other
    types it leaves to `otherwise`; so it does texts under the names `short` that have more than `max_length`
    characters or begin with one of `opening`.
    """
    values = PlainValues("attributes", like)
    for name in like:
        values.variable(name)
    texts = [values.variable(name) for name in short if values.type_of(name) is str]
    body = [
        *values.reading(),
        *leave_unless([*values.of_same_types(), *are_short(texts, max_length)], "otherwise(attributes)"),
        *leave_if_secret(values.texts()),
        "try: return dumps(attributes)",
        "except JSONEncodeError: return None",
    ]
    return compiled("attributes", body, {"otherwise": otherwise, "opening": opening})


def are_short(texts: Iterable[str], max_length: int) -> list[str]:
    """Return the conditions that text variables are no longer than this, and do not begin as what is judged longer."""
    return [condition for text in texts for condition in (f"len({text}) <= {max_length}", f"{text}[:1] not in opening")]


def leave_unless(conditions: Iterable[str], result: str = "None") -> list[str]:
    """Return the statement that leaves with a result unless all conditions hold."""
    together = " and ".join(conditions)
    return [f"if not ({together}): return {result}"] if together else []


def leave_if_secret(texts: Sequence[str]) -> list[str]:
    """Return the statements that leave with None where one of the text variables has the sign of a secret."""
    if not texts:
        return []
    joined = texts[0] if len(texts) == 1 else 'f"' + "\\n".join(f"{{{text}}}" for text in texts) + '"'
    return [f"text = {joined}", "if text not in known_harmless and not is_harmless(text): return None"]


def compiled(parameters: str, body: Iterable[str], constants: Mapping[str, Any]) -> Callable[..., bytes | None]:
    """Return the function of these statements; `constants` are names that they use."""
    source = f"def encode({parameters}):\n" + "".join(f"    {line}\n" for line in body if line)
    known: dict[str, Any] = {
        "dumps": orjson.dumps,
        "JSONEncodeError": orjson.JSONEncodeError,
        "known_harmless": known_harmless,
        "is_harmless": is_harmless,
        **constants,
    }
    exec(compile(source, "<generated by otel_agent_telemetry.otel.plan_code>", "exec"), known)  # noqa: S102 - see above
    encode: Callable[..., bytes | None] = known["encode"]
    return encode
