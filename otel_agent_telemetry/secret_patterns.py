"""Secrets in texts, known by their form: bearer tokens, URL credentials, well-known prefixes, named values.

`mask_text` looks for plain signs first, in the text in lower case; a pattern scans only the
texts that have its signs. What it costs is in proportion to the text, whatever the text.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from otel_agent_telemetry.patterns import lazy

REDACTED: Final = "***REDACTED***"
_SCANNED: Final = 65_536

_IGNORE_CASE: Final = re.IGNORECASE
_FORMS: Final = (
    (("bearer",), lazy(r"\bBearer\s+[A-Za-z0-9._~+/=-]{8,}", _IGNORE_CASE)),
    (
        ("basic",),
        lazy(r"\bBasic\s+(?-i:(?=[A-Za-z/]*(?:[0-9=+]|[a-z][A-Z])))[A-Za-z0-9+/=]{8,}", _IGNORE_CASE),
    ),
    (("://", "@"), lazy(r"(?<=://)(?:[^/\s:@]*:[^/\s@]+|[A-Za-z0-9_.~-]{20,})(?=@)")),
    (("sk-",), lazy(r"\bsk-[A-Za-z0-9_-]{16,}", _IGNORE_CASE)),
    (("gh", "_"), lazy(r"\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}", _IGNORE_CASE)),
    (("glpat-",), lazy(r"\bglpat-[A-Za-z0-9_-]{16,}", _IGNORE_CASE)),
    (("xox",), lazy(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}", _IGNORE_CASE)),
    (("akia",), lazy(r"\bAKIA[0-9A-Z]{16}\b", _IGNORE_CASE)),
    (
        ("eyj", "."),
        lazy(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+", _IGNORE_CASE),
    ),
)
"""Secrets that are known by their form: signs that a text in lower case must all have, and the form itself."""
_FORM_SIGN: Final = lazy(r"bearer|basic|@|sk-|gh|glpat|xox|akia|eyj", _IGNORE_CASE)
_NAMES: Final = (
    "passw",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "jwt",
    "key",
    "sig",
    "authori",
    "cookie",
    "credential",
)
"""One of these is in every name that the patterns below know."""
_NAME: Final = lazy("|".join(_NAMES), _IGNORE_CASE)


class _Known(NamedTuple):
    """A form whose source is in lower case: how to look for it in such a text, fast, and how to replace it in any."""

    inside: re.Pattern[str]
    form: re.Pattern[str]

    def masked(self, text: str, low: str, mask: str) -> str:
        """Return the text with the form replaced; `low` is the text in lower case."""
        return self.form.sub(mask, text) if self.inside.search(low) is not None else text


def _known(source: str) -> _Known:
    return _Known(lazy(source), lazy(source, _IGNORE_CASE))


_KEY: Final = r"(?:api|access|private|secret|auth|session|signing|encryption|subscription)[_-]?keys?"
_WORD: Final = rf"(?:passw(?:or)?d|passphrase|pwd|secret|token|jwt|credential|authorization|cookie|{_KEY})s?"
_IN_QUERY: Final = _known(
    r"(?<=[?&#;])(?:[a-z0-9]{1,20}[_-]){0,4}"
    rf"(?:token|key|apikey|password|passwd|pwd|secret|sig|signature|credential|{_KEY})=[^&\s#\"']+"
)
_IN_ARGUMENT: Final = _known(
    rf"(?<![a-z])(?:[a-z0-9]{{1,20}}_){{0,4}}(?:passw(?:or)?d|passphrase|pwd|secret|token|jwt|{_KEY})=b?"
    r"(?:'[^']+'|\"[^\"]+\")"
)
"""A field in the `repr` of an object: `password='…'`."""
_IN_SETTING: Final = _known(
    rf"((?<![a-z])(?:[a-z0-9]{{1,20}}[_-]){{0,4}}(?:passw(?:or)?d|passphrase|pwd|secret|{_KEY}|auth[_-]token|access[_-]token)=)"
    r"(?!\*\*\*)[^\s&;,'\"]{4,}"
)
"""A setting, a flag or a part of a connection string; group 1 stays."""
_IN_MEMBER: Final = _known(
    rf"({_WORD}\\{{0,3}}[\"']\s{{0,4}}:\s{{0,4}}(\\{{0,3}})([\"']))(?!\*\*\*)(?:(?!\2\3)(?:[^\\]|\\.)){{1,4096}}"
)
"""A member of a JSON object, or of a dict's `repr`, within a text, quoted once more or not; group 1 stays."""
_HEADER_SIGNS: Final = ("authorization", "cookie", "apikey", "-key", "-token", "-secret")
_HEADER: Final = (
    r"(?:(?:proxy-)?authorization|(?:set-)?cookie|apikey|x-[a-z0-9-]{0,40}(?:key|token|secret)"
    r"|(?:[a-z]{1,20}-){0,3}(?:api|auth|access|private|session|security|subscription)-(?:key|token))\s{0,4}:\s{0,4}"
)
_IN_HEADER: Final = _known(
    rf"((?<=')(?!''){_HEADER})(?!\*\*\*|\s)[^\r\n']{{1,4096}}|((?<=\"){_HEADER})(?!\*\*\*|\s)[^\r\n\"]{{1,4096}}"
    rf"|((?:(?<![a-z0-9_'\"-])|(?<=\\[nr])){_HEADER})(?!\*\*\*|\s)[^\r\n]{{1,4096}}"
)
"""A line of HTTP headers, to its end or to the quote that it stands in; its name stays."""
_KEEP_HEADER: Final = rf"\g<1>\g<2>\g<3>{REDACTED}"
_KEEP_NAME: Final = rf"\g<1>{REDACTED}"


def mask_text(text: str, *, scanned: int = _SCANNED) -> str:
    """Return the text with secrets of a known form masked, in its first `scanned` characters (64 Ki); others pass."""
    if len(text) > scanned:
        return _mask(text[:scanned]) + text[scanned:]
    return _mask(text)


def _mask(text: str) -> str:
    """Looks for signs first: most texts have none, and are not scanned by the patterns at all."""
    low = text.lower()
    for signs, form in _FORMS:
        if all(sign in low for sign in signs):
            text = form.sub(REDACTED, text)
    if any(name in low for name in _NAMES):
        text = _mask_named(text, low)
    return text


def _mask_named(text: str, low: str) -> str:
    """What stands behind a name: in a query, a `repr`, a JSON text, a header."""
    if "=" in low:
        text = _IN_QUERY.masked(text, low, REDACTED)
        text = _IN_ARGUMENT.masked(text, low, REDACTED)
        text = _IN_SETTING.masked(text, low, _KEEP_NAME)
    if ":" in low:
        text = _IN_MEMBER.masked(text, low, _KEEP_NAME)
        if any(sign in low for sign in _HEADER_SIGNS):
            text = _IN_HEADER.masked(text, low, _KEEP_HEADER)
    return text


def hides_nothing(text: str) -> bool:
    """Whether a short text has none of the signs that a secret in it would have."""
    return _FORM_SIGN.search(text) is None and ((":" not in text and "=" not in text) or _NAME.search(text) is None)


_HARMLESS_LENGTH: Final = 8_192
_MAX_VERDICTS: Final = 2_048
_MAX_REMEMBERED: Final = 1_024
known_harmless: Final[dict[str, None]] = {}
"""Texts, joined, that were found to have no sign: an application writes the same ones again and again."""


def is_harmless(text: str) -> bool:
    """Return whether a text, or some that are joined by LF, has no sign that a secret in it would have.

    False does not mean that there is one: then the patterns look. The last thousands of
    answers are remembered for short texts, in `known_harmless`.
    """
    if text in known_harmless:
        return True
    if len(text) > _HARMLESS_LENGTH or not hides_nothing_folded(text):
        return False
    if len(text) <= _MAX_REMEMBERED:
        if len(known_harmless) >= _MAX_VERDICTS:
            known_harmless.clear()
        known_harmless[text] = None
    return True


def hides_nothing_folded(text: str) -> bool:
    """`hides_nothing`, by searching the text in lower case: a third of the cost of ignoring case."""
    low = text.lower() if text.isascii() else text.casefold()
    return _FOLDED_FORM_SIGN.search(low) is None and (
        (":" not in low and "=" not in low) or _FOLDED_NAME.search(low) is None
    )


_FOLDED_FORM_SIGN: Final = lazy(r"bearer|basic|@|sk-|gh|glpat|xox|akia|eyj")
_FOLDED_NAME: Final = lazy("|".join(_NAMES))
