"""The values behind `=` and `:`: settings, members of JSON, headers, queries, connection strings, YAML.

`assigned` finds where the value of a name ends, by how it is written, and decides whether it is a secret. It is left
alone where it is a placeholder, a type, a count, a word of a sentence or an expression of a program. Which names are
looked at, and secrets that stand elsewhere than behind a sign, are in `secret_values`.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from otel_agent_telemetry.names_in_texts import NameInText
from otel_agent_telemetry.patterns import lazy
from otel_agent_telemetry.plain_values import (
    default_at,
    is_call,
    is_no_secret,
    is_number,
    is_reference,
    is_type,
    looks_random,
)
from otel_agent_telemetry.secret_names import words_of

_MAX_BEFORE: Final = 64
ESCAPED_QUOTE: Final = r"\\{0,7}[\"'`]"
"""A quote with the backslashes that it has as JSON in JSON in JSON; seven are three levels."""
QUOTED: Final = lazy(r"[@brufBRUF$]{0,2}(\\{0,7})([\"'`])((?:(?!\1\2)(?:[^\\]|\\.)){0,4096}+)", re.DOTALL)
_COMPOSED: Final = lazy(r"\[[^\[\]]{1,4096}\]|\{[^{}]{1,4096}\}")
_QUOTE: Final = lazy(ESCAPED_QUOTE)
_HOLDERS: Final = (("credentials",), ("credential",), ("secrets",), ("cookies",))
"""Names whose objects hold secrets under any name."""
_NO_VALUES: Final = ("${", "$(", "<", "{{", "%(")
"""How placeholders begin."""
_SCHEME: Final = lazy(r"(?:bearer|basic|token|apikey|digest|bot)[ \t]{1,4}(?=\S)", re.IGNORECASE)
"""How a credential is meant, before it: `authorization=Bearer x`."""
_TRIPLE_QUOTES: Final = ('"""', "'''")
_BLOCK: Final = lazy(
    r"[|>][+-]?[0-9]?[ \t]{0,8}\r?\n[ \t]{1,64}([^\s][^\r\n]{0,4096}(?:\r?\n[ \t]{1,64}[^\s][^\r\n]{0,4096}){0,64})"
)
"""The lines of a text in YAML."""
_TEMPLATE: Final = lazy(r"\{(?:[A-Za-z_.!:]*|[0-9](?:![rs])?)\}|[{\[](?:\s|b?[\"']|$)")
_TUPLE: Final = lazy(r"\([^()]{1,512}\)")
_LINE_ENDS: Final = lazy(r"[ \t]*(?:$|[\r\n#;\"'`)\]}\\])")
_STRUCTURES: Final = frozenset("{[-0123456789")
_NUMBER: Final = lazy(r"-?[0-9][0-9.]*")
_SETTING: Final = lazy(r"(?:[^\s\"'`,;&<\\]|[,;&](?!\s|[\w.% -]{1,40}=|$|[\"'])|\\(?![nrt\"'\\])){1,4096}+")
"""Text without blanks, to the next member of a list `a=1,b=2` or `a=1;b=2` or `a=1&b=2`."""
_IN_QUERY: Final = lazy(r"[^&\s#\"'<>\\;]{1,4096}")
_IN_ENCODED: Final = lazy(r"(?:%22)?(?:(?!%26|%20|%22)[^\s\"'&]){1,4096}", re.IGNORECASE)
_IN_CONNECTION: Final = lazy(r"[^;\"'\r\n]{1,512}")
_ENVIRONMENT: Final = lazy(r"[^\s\"'`]{1,4096}")
WORD: Final = lazy(r"[^\s\"'`,;<]{1,4096}")
HEADER_NAME: Final = lazy(r"(?:proxy-)?authorization|(?:set-)?cookie2?|apikey|[a-z0-9]+(?:-[a-z0-9]+)+", re.IGNORECASE)
_HEADER_VALUES: Final = {quote: lazy(rf"(?:[^\r\n\\{quote}]|\\(?![rn])){{1,4096}}+") for quote in ("", '"', "'", "`")}
"""The value of a header line, to its end, or to the quote that the whole line stands in."""

_PUNCTUATED: Final = lazy(r"[ \t]*(?:$|[\r\n,;)\]}|\"'`]|[\w.-]{1,40}\s?[:=])")
VALUE_BEFORE: Final = lazy(
    rf"{ESCAPED_QUOTE}(?:string_?)?val(?:ue)?{ESCAPED_QUOTE}\s{{0,8}}[:=]\s{{0,8}}", re.IGNORECASE
)


class Span(NamedTuple):
    """Where a secret stands, and the quotes that the mask takes where it had none."""

    start: int
    end: int
    quote: str = ""


def assigned(text: str, name: NameInText, sign: str, at: int, *, has_blank: bool) -> Span | None:
    """Return where the secret behind `=` or `:` stands; None where the value is none.

    `sign`: the sign as written, `=`, `:`, `=>`, `%3d` and so on. `at`: the place behind it. `has_blank`: whether a
    blank stands before the sign, as in a program but not in a shell. Reads at most some 4,096 characters.
    """
    first, is_colon = _value_place(text, name, sign, at)
    quoted = QUOTED.match(text, first)
    if quoted is not None:
        if quoted[2] == name.before and not name.is_quoted:  # the quote that the name stands in is closed
            return None
        return Span(*quoted.span(3)) if _hides(name, quoted[3], sign) else None
    if _is_expression(text, name, first):
        return None  # decided without a look at the whole value, which may be the rest of the text
    if text.startswith("(", first) or (name.is_quoted and text[first : first + 1] in _STRUCTURES):
        return _structured(text, name, first)
    if is_colon:
        return _behind_colon(text, name, first)
    return _unquoted(text, name, sign, first, has_blank=has_blank or first > at)


def _is_expression(text: str, name: NameInText, at: int) -> bool:
    """Return whether a placeholder, a template or a call stands behind a name."""
    is_template = text.startswith(_NO_VALUES, at) or (not name.is_quoted and _TEMPLATE.match(text, at) is not None)
    return is_template or (not name.is_sure and is_call(text, at))


def _value_place(text: str, name: NameInText, sign: str, at: int) -> tuple[int, bool]:
    """Return where a value begins behind its sign, and whether it stands behind a colon as in YAML."""
    limit = min(len(text), at + 16)
    first = at
    while first < limit and (text[first] in " \t" or (name.is_quoted and text[first] in "\r\n")):
        first += 1
    is_colon = sign == ":"
    if is_colon and not name.is_quoted and (default := default_at(text, first)) is not None:
        first, is_colon = default, False
    elif not is_colon and (scheme := _SCHEME.match(text, first)) is not None:
        first = scheme.end()
    if text.startswith(_TRIPLE_QUOTES, first):
        first += 2
    return first, is_colon


def _pair_of_user(text: str, name: NameInText, at: int) -> Span | None:
    """Return user and password in `auth=("me", "x")`; anything else in parentheses is an expression."""
    found = _TUPLE.match(text, at)
    is_pair = found is not None and words_of(name.text)[-1:] == ("auth",) and _QUOTE.search(found[0]) is not None
    return Span(*found.span(), '"') if is_pair and found is not None else None


def _structured(text: str, name: NameInText, at: int) -> Span | None:
    """Return a number, an array or an object of JSON, or a pair in parentheses."""
    if text.startswith("(", at):
        return _pair_of_user(text, name, at)
    value = _COMPOSED.match(text, at)
    if value is not None:
        quote = _QUOTE.search(value[0])
        is_held = value[0][0] == "[" or words_of(name.text)[-1:] in _HOLDERS or not name.before
        is_held = is_held or VALUE_BEFORE.search(value[0]) is not None
        return Span(*value.span(), quote[0]) if is_held and quote is not None else None
    number = _NUMBER.match(text, at)
    if number is None:
        return None
    if text[number.end() : number.end() + 1] not in ",}]) \r\n\t":  # a text that begins with a digit
        return _behind_colon(text, name, at)
    if name.is_weak or name.text.lower().endswith("s"):
        return None
    return Span(*number.span(), '"')


def _hides(name: NameInText, value: str, sign: str) -> bool:
    """Return whether a value in quotes is a secret."""
    if is_no_secret(name.text, value) or _is_count(name, value):
        return False
    if not name.is_weak or name.is_quoted:
        return True
    if sign == ":" or len(sign) > 1:  # a message about a token of a grammar, a comparison
        return looks_random(value, least=6)
    return any(map(str.isalnum, value))


def _unquoted(text: str, name: NameInText, sign: str, at: int, *, has_blank: bool) -> Span | None:
    """Return the value of a setting, a member of a query, of a connection string, of an environment."""
    # The quantifiers are possessive and bounded: a text made for it must not take more than linear time.
    value = _pattern_of(text, name, sign, at, has_blank=has_blank).match(text, at)
    if value is None:
        return None
    secret = value[0].rstrip(")]}:")
    if is_no_secret(name.text, secret) or _is_count(name, secret):
        return None
    is_shell = name.is_sure or (name.is_variable and not has_blank)
    if not is_shell and is_reference(name.text, secret):
        return None
    if name.is_query_key:
        is_secret = looks_random(secret, least=6) and not secret[:2].isupper()  # PROJ-123 is the key of a ticket
    else:
        is_code = len(sign) > 1 or (has_blank and _LINE_ENDS.match(text, at + len(value[0])) is None)
        is_sure = not (is_code or (name.is_weak and not name.is_variable and has_blank))
        is_secret = is_sure or (looks_random(secret) and not is_number(secret))
    return Span(at, at + len(secret)) if is_secret else None


def _pattern_of(text: str, name: NameInText, sign: str, at: int, *, has_blank: bool) -> re.Pattern[str]:
    """Return how far a value without quotes goes, by what its name stands behind."""
    if sign.startswith("%"):
        return _IN_ENCODED
    if name.before in ("?", "&", "#"):
        return _IN_QUERY
    if name.before == ";" and not has_blank:
        return _IN_CONNECTION if ";" in text[at : at + 512] else _IN_QUERY
    is_environment = name.is_variable and not has_blank and name.begins_line(text)
    return _ENVIRONMENT if is_environment else _SETTING


def _is_count(name: NameInText, value: str) -> bool:
    """Return whether a value is a number under a name that may be of a count: `cookies: 3`."""
    return value.replace(".", "").isdigit() and (name.is_weak or name.text.lower().endswith("s"))


def _behind_colon(text: str, name: NameInText, at: int) -> Span | None:
    """Return the value of a header, of a line of YAML, or in a sentence."""
    if HEADER_NAME.fullmatch(name.text) is not None and not name.is_quoted:
        return _header(text, name, at)
    if (block := _BLOCK.match(text, at)) is not None:
        return Span(*block.span(1))
    value = WORD.match(text, at)
    secret = value[0].rstrip(").:!?]}") if value is not None else ""
    if value is None or not secret or is_no_secret(name.text, secret) or is_type(secret) or _is_count(name, secret):
        return None
    if is_reference(name.text, secret):
        return None
    is_last = _PUNCTUATED.match(text, value.end(), value.end() + _MAX_BEFORE) is not None
    if name.is_weak:
        is_secret = looks_random(secret, least=4 if is_last and name.begins_line(text) else 8)
    else:
        is_secret = is_last or looks_random(secret) or secret.isdigit()
    return Span(at, at + len(secret)) if is_secret else None


def _header(text: str, name: NameInText, at: int) -> Span | None:
    """Return the value of a header, to the end of its line or quotes."""
    value = _HEADER_VALUES[name.before if name.before in ("'", '"', "`") else ""].match(text, at)
    if value is None or is_no_secret(name.text, value[0]) or is_type(value[0].strip()):
        return None
    return Span(at, at + len(value[0].rstrip()))
