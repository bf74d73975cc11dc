"""Secrets in texts that stand behind a name: settings, members of JSON, headers, queries, pairs, YAML, XML.

One scan finds where a name that may be a secret's is followed by `=`, `:` or the like; whether
the whole name is one decides `secret_names`, as for the keys of a payload. Then the value is
found by how it is written, and left alone where it is no secret: a placeholder, a type, a word
of a sentence, an expression of a program.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from otel_agent_telemetry.names_in_texts import NameInText, name_at
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
from otel_agent_telemetry.secret_names import REDACTED, is_secret_key, lowered, words_of

STEMS: Final = (
    *("pass", "pwd", "pw(?![a-z])", "kennwort", "secret", "token", "key", "auth", "cookie", "credential", "jwt", "sig"),
)
"""One of these is in every name that is looked for, in lower case; as patterns."""
_MAX_VALUE: Final = 4_096
_MAX_BEFORE: Final = 64
_OBJECT_BEFORE: Final = 512

_ESCAPED_QUOTE: Final = r"\\{0,7}[\"'`]"
_VALUE_MEMBER: Final = (
    rf"(?:,\s{{0,40}}+{_ESCAPED_QUOTE}[\w-]{{1,40}}+{_ESCAPED_QUOTE}\s{{0,4}}+:\s{{0,4}}+[^,{{}}]{{1,60}}+){{0,2}}"
    rf"(?:,\s{{0,40}}+|\s{{1,40}}+)(?:{_ESCAPED_QUOTE})?(?:string_?)?val(?:ue)?(?:{_ESCAPED_QUOTE})?\s{{0,8}}+[:=]"
)
_NAMED: Final = lazy(
    rf"((?:{'|'.join((*STEMS, 'bearer'))})[\w.-]{{0,64}}+)({_ESCAPED_QUOTE}|%22)?+(?:\]|\\?\))?+(?:"
    r"[ \t]{0,16}+(?P<assign>=>|:=|[=!]==?|=|:(?!:)|%3[ad])"
    rf"|(?P<member>{_VALUE_MEMBER})|(?P<close>\s{{0,40}}+\}})|(?P<pair>\s{{0,4}}+,)|(?P<tag>\s{{0,4}}>)"
    rf"|(?P<call>\(\s{{0,4}}(?={_ESCAPED_QUOTE}))|(?P<told>[ \t]{{1,4}}(?:is[ \t]{{1,4}}|(?=[\"']))))"
)
"""In lower case: the name from its stem on, its closing quote, and what makes the next a value."""
_QUOTED: Final = lazy(r"[@brufBRUF$]{0,2}(\\{0,7})([\"'`])((?:(?!\1\2)(?:[^\\]|\\.)){0,4096}+)", re.DOTALL)
_COMPOSED: Final = lazy(r"\[[^\[\]]{1,4096}\]|\{[^{}]{1,4096}\}")
_QUOTE: Final = lazy(_ESCAPED_QUOTE)
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
_ENDS_OF_NAMES: Final = frozenset(
    {"password", "passwd", "passphrase", "pwd", "secret", "token", "key", "credentials", "str", "apikey", "cookie"}
)
"""Last words of functions and types that take the secret itself."""
_VERBS: Final = frozenset(
    {"get", "find", "read", "load", "fetch", "require", "prompt", "input", "encrypt", "hash", "verify", "check"}
    | {"decode", "validate", "is", "has", "test", "ask", "enter", "generate", "create", "make", "delete", "remove"}
)
"""First words of functions that take something else than the secret."""
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
_IN_TAG: Final = lazy(r"\s{0,16}([^<\s][^<]{0,4096})</")
_WORD: Final = lazy(r"[^\s\"'`,;<]{1,4096}")
_HEADER_NAME: Final = lazy(r"(?:proxy-)?authorization|(?:set-)?cookie2?|apikey|[a-z0-9]+(?:-[a-z0-9]+)+", re.IGNORECASE)
_HEADER_VALUES: Final = {quote: lazy(rf"(?:[^\r\n\\{quote}]|\\(?![rn])){{1,4096}}+") for quote in ("", '"', "'", "`")}
"""The value of a header line, to its end, or to the quote that the whole line stands in."""

_PUNCTUATED: Final = lazy(r"[ \t]*(?:$|[\r\n,;)\]}|\"'`]|[\w.-]{1,40}\s?[:=])")
_SETTER: Final = lazy(r"\w*(?:set|add|put|append|header|insert|export|store|push|with|define)\w*\($", re.IGNORECASE)
_NAME_MEMBER: Final = lazy(rf"(?:name|key|header|field|k|n)(?:{_ESCAPED_QUOTE})?\s{{0,8}}[:=]\s{{0,8}}\\{{0,7}}$")
_VALUE_BEFORE: Final = lazy(
    rf"{_ESCAPED_QUOTE}(?:string_?)?val(?:ue)?{_ESCAPED_QUOTE}\s{{0,8}}[:=]\s{{0,8}}", re.IGNORECASE
)


class Span(NamedTuple):
    """Where a secret stands, and the quotes that the mask takes where it had none."""

    start: int
    end: int
    quote: str = ""


def mask_values(text: str) -> str:
    """Return the text with the values behind names of secrets replaced; the same object when there is none."""
    low = lowered(text)
    parts: list[str] = []
    done = at = 0
    while (found := _NAMED.search(low, at)) is not None:
        at = found.end() if found.lastgroup != "pair" else found.end() - 1
        name = name_at(text, found.start(), found.end(1), is_quoted=found[2] is not None)
        span = _span_of(text, low, name, found) if name is not None else None
        if span is None:
            continue
        start, end, quote = span
        if start < done or text[start:end] == REDACTED:
            continue
        parts += text[done:start], f"{quote}{REDACTED}{quote}"
        done = end
        at = max(at, end)
    return "".join((*parts, text[done:])) if parts else text


def _span_of(text: str, low: str, name: NameInText, found: re.Match[str]) -> Span | None:
    """Return where the secret stands; None where the value is no secret."""
    at = found.end()
    match found.lastgroup:
        case "assign":
            return _assigned(text, name, found["assign"], at, has_blank=text[at - len(found["assign"]) - 1] in " \t")
        case "member":
            is_member = (
                name.is_quoted or "\n" in found["member"] or name.before == "<" or _is_value_of_name(low, name.start)
            )
            named = name._replace(is_quoted=True, is_sure=True, before="")
            return _assigned(text, named, ":", at, has_blank=False) if is_member else None
        case "tag":
            is_tag = name.before in ("<", ":") or (name.is_quoted and _is_value_of_name(low, name.start - 1))
            value = _IN_TAG.match(text, at) if is_tag else None
            return Span(*value.span(1)) if value is not None and not is_no_secret(name.text, value[1]) else None
        case "pair":
            return _paired(text, name, at, found[2])
        case "call" | "told":
            return _value_behind(text, name, at, is_call=found.lastgroup == "call")
        case _:
            return _before_its_name(text, low, name)


def _is_value_of_name(low: str, at: int) -> bool:
    """Return whether `name:`, `key=` or the like stands before a place."""
    return _NAME_MEMBER.search(low, max(0, at - 40), at) is not None


def _value_behind(text: str, name: NameInText, at: int, *, is_call: bool) -> Span | None:
    """Return the value in `the password is hunter2`, `password "hunter2"`, `setPassword("hunter2")`."""
    quoted = _QUOTED.match(text, at)
    if is_call:
        is_secret = quoted is not None and not name.is_weak and words_of(name.text)[0] not in _VERBS
        is_secret = is_secret and is_secret_key(" ".join(words_of(name.text)[-2:]).removesuffix(" str"))
        is_secret = is_secret and words_of(name.text)[-1] in _ENDS_OF_NAMES
        is_secret = is_secret and quoted is not None and not is_no_secret(name.text, quoted[3])
        return Span(*quoted.span(3)) if is_secret and quoted is not None else None
    value = _WORD.match(text, at) if quoted is None else None
    start, end = quoted.span(3) if quoted is not None else value.span() if value is not None else (at, at)
    secret = text[start:end].rstrip(").:!?]}") if quoted is None else text[start:end]
    is_secret = " " not in secret and looks_random(secret, least=6) and not is_no_secret(name.text, secret)
    return Span(start, start + len(secret)) if is_secret else None


def _assigned(text: str, name: NameInText, sign: str, at: int, *, has_blank: bool) -> Span | None:
    """Return the value behind `=` or `:`."""
    first, is_colon = _value_place(text, name, sign, at)
    quoted = _QUOTED.match(text, first)
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
        is_held = is_held or _VALUE_BEFORE.search(value[0]) is not None
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
    if _HEADER_NAME.fullmatch(name.text) is not None and not name.is_quoted:
        return _header(text, name, at)
    if (block := _BLOCK.match(text, at)) is not None:
        return Span(*block.span(1))
    value = _WORD.match(text, at)
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


def _paired(text: str, name: NameInText, at: int, quote: str | None) -> Span | None:
    """Return the second of two quoted texts, where they are a pair and not two of a list."""
    if quote is None or name.is_sure:
        return None
    limit = min(len(text), at + 8)
    while at < limit and text[at] in " \t\r\n":
        at += 1
    value = _QUOTED.match(text, at)
    if value is None or is_no_secret(name.text, value[3]):
        return None
    if name.is_weak and not _is_header(name.text) and not looks_random(value[3]):
        return None
    opens = text[max(0, name.start - 48) : name.start].rstrip("\"'`\\").rstrip()
    if opens[-1:] == "b" and not opens[-2:-1].isalnum():  # bytes of Python
        opens = opens[:-1].rstrip()
    behind = text[value.end() + len(value[1]) + 1 :][:8].lstrip()[:1]
    if opens[-1:] == "(" and opens[-2:-1].isalnum():
        is_pair = _SETTER.search(opens) is not None
    elif opens[-1:] in ("(", "["):
        is_pair = behind in (")", "]") and opens[:-1].rstrip(" \t")[-1:] in ("", "\n", "[", "(", ",", ":")
        is_pair = is_pair and (opens[-1:] == "(" or opens[:-1].rstrip()[-1:] in ("[", ","))
    else:
        is_pair = False
    if not is_pair and behind in (",", "]"):  # a flat list of headers: name, value, name, value
        is_pair = _is_header(name.text) and not is_secret_key(value[3]) and opens[-1:] in (",", "[")
    return Span(*value.span(3)) if is_pair else None


def _is_header(name: str) -> bool:
    return _HEADER_NAME.fullmatch(name) is not None


def _before_its_name(text: str, low: str, name: NameInText) -> Span | None:
    """Return the value of an object that has its value before its name."""
    begin = max(text.rfind("{", max(0, name.start - _OBJECT_BEFORE), name.start), 0)
    quote = name.start - 1
    if not name.is_quoted or _NAME_MEMBER.search(low, max(begin, quote - 40), quote) is None:
        return None
    member = _VALUE_BEFORE.search(text, begin, quote)
    value = _QUOTED.match(text, member.end()) if member is not None else None
    if value is None or value.end() > quote or is_no_secret(name.text, value[3]):
        return None
    return Span(*value.span(3))
