"""What stands behind a secret's name in a text and is no secret: placeholders, types, expressions of a program."""

from __future__ import annotations

import re
from typing import Final

from otel_agent_telemetry.patterns import lazy
from otel_agent_telemetry.secret_names import REDACTED, is_plain_value, is_secret_key, words_of

_PLACEHOLDER: Final = lazy(
    r"[*•.…?_-]+|x{3,}|<.*|\$\{.*|\$\(.*|\$[A-Za-z_]\w*|%[A-Za-z_]\w*%|\{\{.*|\{(?:[A-Za-z_.!:]*|[0-9](?:![rs])?)\}"
    r"|(?:my|your)[ _-][\w -]*|%\(\w+\)s|%[sdr]|\[.*",
    re.IGNORECASE | re.DOTALL,
)
_NO_SECRETS: Final = frozenset(
    {"none", "null", "nil", "undefined", "true", "false", "yes", "no", "on", "off", "ok", "required", "optional"}
    | {"missing", "invalid", "incorrect", "wrong", "expired", "empty", "unset", "set", "not", "unknown", "n/a", "na"}
    | {"disabled", "enabled", "hidden", "redacted", "masked", "removed", "changed", "updated", "reset", "failed"}
    | {"failure", "success", "successful", "accepted", "denied", "rejected", "mismatch", "error", "done", "pending"}
    | {"complete", "completed", "saved", "sent", "found", "valid", "granted", "revoked", "refreshed", "rotated"}
    | {"present", "absent", "default"}
)
"""What a message says of a secret."""
_TYPES: Final = lazy(
    r"(?:str|string|int|integer|number|bool|boolean|bytes|byte|char|text|any|object|optional|union|list|dict|map"
    r"|secretstr|secret_str|none|literal|final|annotated|field|type|varchar|uuid)\b(?![-_@!#$%])[\w\[\]<>|., ?()]*",
    re.IGNORECASE,
)
_DEFAULT: Final = lazy(r"\s{0,4}=\s{0,4}(?=[\"'])")
_CALL: Final = lazy(r"(?:[A-Za-z_$][\w$]*+(?:\.|->|::|\?\.))*[A-Za-z_$][\w$]*+\s?[(\[]")
_PATH_OF_NAMES: Final = lazy(r"[A-Za-z_]+(?:\??\.[A-Za-z_]+)+")
_IDENTIFIER: Final = lazy(r"_*[A-Za-z]+(?:_[A-Za-z]+)*_?")
_RANDOM: Final = lazy(r"(?=.*[0-9])(?=.*[A-Za-z])|.*[!@#$%^&*+=~].*", re.DOTALL)
"""Text of letters and digits, or with a sign that words do not have."""
_SCHEME: Final = lazy(r"(?:bearer|basic|token|apikey|digest|bot)\s+", re.IGNORECASE)
_NUMBER: Final = lazy(r"0x[0-9a-f]+|[0-9.]+", re.IGNORECASE)


def is_no_secret(name: str, value: str) -> bool:
    """Return whether a value is a placeholder, a word of a message about the secret, or plain by its name."""
    plain = _SCHEME.sub("", value.strip(), count=1)
    return (
        not plain
        or plain == REDACTED
        or plain.lower() in _NO_SECRETS
        or _PLACEHOLDER.fullmatch(plain) is not None
        or is_plain_value(name, plain)
    )


def is_type(value: str) -> bool:
    """Return whether a value is the type of a parameter or a field."""
    return _TYPES.fullmatch(value) is not None


def default_at(text: str, at: int) -> int | None:
    """Return where the default of a parameter begins that has a type before it: `password: str = "x"`."""
    kind = _TYPES.match(text, at)
    if kind is None:
        return None
    default = _DEFAULT.match(text, kind.start() + len(kind[0].rstrip()))
    return default.end() if default is not None else None


def is_call(text: str, at: int) -> bool:
    """Return whether a call or an index stands at a place of a text: `get_password(`, `os.environ[`."""
    return _CALL.match(text, at, at + 128) is not None


def is_reference(name: str, value: str) -> bool:
    """Return whether a value is a variable or a member of an object: `config.api_key`, `new_password`."""
    if _PATH_OF_NAMES.fullmatch(value) is not None:
        return True
    if _IDENTIFIER.fullmatch(value) is None:
        return False
    is_same = value.lower().lstrip("_") == name.lower().rpartition(".")[2].lstrip("_")
    return is_same or (len(words_of(value)) > 1 and is_secret_key(value))


def is_number(value: str) -> bool:
    """Return whether a value is a number, decimal or hexadecimal."""
    return _NUMBER.fullmatch(value) is not None


def looks_random(value: str, *, least: int = 1) -> bool:
    """Return whether a value of at least `least` characters is no plain word."""
    return len(value) >= least and _RANDOM.match(value) is not None
