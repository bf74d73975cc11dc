"""Secrets in texts that stand behind a name: settings, members of JSON, headers, queries, pairs, YAML, XML.

One scan finds where a name that may be a secret's is followed by `=`, `:` or the like; whether the
whole name is one decides `secret_names`, as for the keys of a payload. The value behind `=` or
`:` is found by `secret_settings`; the other ways to give one are here: a pair of quoted texts, a
call, a tag, a sentence, an object that has its value before its name.
"""

from __future__ import annotations

import re
from typing import Final

from otel_agent_telemetry.names_in_texts import NameInText, name_at
from otel_agent_telemetry.patterns import lazy
from otel_agent_telemetry.plain_values import (
    is_no_secret,
    looks_random,
)
from otel_agent_telemetry.secret_names import REDACTED, is_secret_key, lowered, words_of
from otel_agent_telemetry.secret_settings import (
    ESCAPED_QUOTE,
    HEADER_NAME,
    QUOTED,
    VALUE_BEFORE,
    WORD,
    Span,
    assigned,
)

STEMS: Final = (
    *("pass", "pwd", "pw(?![a-z])", "kennwort", "secret", "token", "key", "auth", "cookie", "credential", "jwt", "sig"),
)
"""One of these is in every name that is looked for, in lower case; as patterns."""
_OBJECT_BEFORE: Final = 512

_VALUE_MEMBER: Final = (
    rf"(?:,\s{{0,40}}+{ESCAPED_QUOTE}[\w-]{{1,40}}+{ESCAPED_QUOTE}\s{{0,4}}+:\s{{0,4}}+[^,{{}}]{{1,60}}+){{0,2}}"
    rf"(?:,\s{{0,40}}+|\s{{1,40}}+)(?:{ESCAPED_QUOTE})?(?:string_?)?val(?:ue)?(?:{ESCAPED_QUOTE})?\s{{0,8}}+[:=]"
)
_NAMED: Final = lazy(
    rf"((?:{'|'.join((*STEMS, 'bearer'))})[\w.-]{{0,64}}+)({ESCAPED_QUOTE}|%22)?+(?:\]|\\?\))?+(?:"
    r"[ \t]{0,16}+(?P<assign>=>|:=|[=!]==?|=|:(?!:)|%3[ad])"
    rf"|(?P<member>{_VALUE_MEMBER})|(?P<close>\s{{0,40}}+\}})|(?P<pair>\s{{0,4}}+,)|(?P<tag>\s{{0,4}}>)"
    rf"|(?P<call>\(\s{{0,4}}(?={ESCAPED_QUOTE}))|(?P<sentence>[ \t]{{1,4}}(?:is[ \t]{{1,4}}|(?=[\"']))))"
)
"""In lower case: the name from its stem on, its closing quote, and what makes the next a value."""
_ENDS_OF_NAMES: Final = frozenset(
    {"password", "passwd", "passphrase", "pwd", "secret", "token", "key", "credentials", "str", "apikey", "cookie"}
)
"""Last words of functions and types that take the secret itself."""
_VERBS: Final = frozenset(
    {"get", "find", "read", "load", "fetch", "require", "prompt", "input", "encrypt", "hash", "verify", "check"}
    | {"decode", "validate", "is", "has", "test", "ask", "enter", "generate", "create", "make", "delete", "remove"}
)
"""First words of functions that take something else than the secret."""
_IN_TAG: Final = lazy(r"\s{0,16}([^<\s][^<]{0,4096})</")
_SETTER: Final = lazy(r"\w*(?:set|add|put|append|header|insert|export|store|push|with|define)\w*\($", re.IGNORECASE)
_NAME_MEMBER: Final = lazy(rf"(?:name|key|header|field|k|n)(?:{ESCAPED_QUOTE})?\s{{0,8}}[:=]\s{{0,8}}\\{{0,7}}$")


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
            return assigned(text, name, found["assign"], at, has_blank=text[at - len(found["assign"]) - 1] in " \t")
        case "member":
            is_member = (
                name.is_quoted or "\n" in found["member"] or name.before == "<" or _is_value_of_name(low, name.start)
            )
            named = name._replace(is_quoted=True, is_sure=True, before="")
            return assigned(text, named, ":", at, has_blank=False) if is_member else None
        case "tag":
            is_tag = name.before in ("<", ":") or (name.is_quoted and _is_value_of_name(low, name.start - 1))
            value = _IN_TAG.match(text, at) if is_tag else None
            return Span(*value.span(1)) if value is not None and not is_no_secret(name.text, value[1]) else None
        case "pair":
            return _paired(text, name, at, found[2])
        case "call" | "sentence":
            return _value_behind(text, name, at, is_call=found.lastgroup == "call")
        case _:
            return _before_its_name(text, low, name)


def _is_value_of_name(low: str, at: int) -> bool:
    """Return whether `name:`, `key=` or the like stands before a place."""
    return _NAME_MEMBER.search(low, max(0, at - 40), at) is not None


def _value_behind(text: str, name: NameInText, at: int, *, is_call: bool) -> Span | None:
    """Return the value in `the password is hunter2`, `password "hunter2"`, `setPassword("hunter2")`."""
    quoted = QUOTED.match(text, at)
    if is_call:
        is_secret = quoted is not None and not name.is_weak and words_of(name.text)[0] not in _VERBS
        is_secret = is_secret and is_secret_key(" ".join(words_of(name.text)[-2:]).removesuffix(" str"))
        is_secret = is_secret and words_of(name.text)[-1] in _ENDS_OF_NAMES
        is_secret = is_secret and quoted is not None and not is_no_secret(name.text, quoted[3])
        return Span(*quoted.span(3)) if is_secret and quoted is not None else None
    value = WORD.match(text, at) if quoted is None else None
    start, end = quoted.span(3) if quoted is not None else value.span() if value is not None else (at, at)
    secret = text[start:end].rstrip(").:!?]}") if quoted is None else text[start:end]
    is_secret = " " not in secret and looks_random(secret, least=6) and not is_no_secret(name.text, secret)
    return Span(start, start + len(secret)) if is_secret else None


def _paired(text: str, name: NameInText, at: int, quote: str | None) -> Span | None:
    """Return the second of two quoted texts, where they are a pair and not two of a list."""
    if quote is None or name.is_sure:
        return None
    limit = min(len(text), at + 8)
    while at < limit and text[at] in " \t\r\n":
        at += 1
    value = QUOTED.match(text, at)
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
    """Return whether a name has the form of an HTTP header."""
    return HEADER_NAME.fullmatch(name) is not None


def _before_its_name(text: str, low: str, name: NameInText) -> Span | None:
    """Return the value of an object that has its value before its name."""
    begin = max(text.rfind("{", max(0, name.start - _OBJECT_BEFORE), name.start), 0)
    quote = name.start - 1
    if not name.is_quoted or _NAME_MEMBER.search(low, max(begin, quote - 40), quote) is None:
        return None
    member = VALUE_BEFORE.search(text, begin, quote)
    value = QUOTED.match(text, member.end()) if member is not None else None
    if value is None or value.end() > quote or is_no_secret(name.text, value[3]):
        return None
    return Span(*value.span(3))
