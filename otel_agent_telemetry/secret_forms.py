"""Secrets in texts, known by their form: bearer tokens, URL credentials, well-known prefixes, named values.

`mask_text` looks for plain signs first, in the text in lower case; a pattern scans only the
texts that have its signs. What it costs is in proportion to the text, whatever the text.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from otel_agent_telemetry.patterns import lazy

REDACTED: Final = "***REDACTED***"
_SCANNED: Final = 16_384

_IGNORE_CASE: Final = re.IGNORECASE
_FORMS: Final = (
    (("bearer",), lazy(r"\bBearer\s+[A-Za-z0-9._~+/=-]{8,}", _IGNORE_CASE)),
    (
        ("basic",),
        lazy(r"\bBasic\s+(?-i:(?=[A-Za-z/]*(?:[0-9=+]|[a-z][A-Z])))[A-Za-z0-9+/=]{8,}", _IGNORE_CASE),
    ),
    (("://", "@"), lazy(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)")),
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
_NAMES: Final = ("passw", "passphrase", "secret", "token", "key", "sig", "authori", "cookie", "credential")
"""One of these is in every name that the patterns below know."""
_NAME: Final = lazy("|".join(_NAMES), _IGNORE_CASE)


class _Known(NamedTuple):
    """A form whose source is in lower case: how to look for it in such a text, fast, and how to replace it in any."""

    inside: re.Pattern[str]
    form: re.Pattern[str]

    def masked(self, text: str, low: str, mask: str) -> str:
        """The text with the form replaced; `low` is the text in lower case."""
        return self.form.sub(mask, text) if self.inside.search(low) is not None else text


def _known(source: str) -> _Known:
    return _Known(lazy(source), lazy(source, _IGNORE_CASE))


_IN_QUERY: Final = _known(
    r"(?<=[?&])(?:token|key|api_key|apikey|access_token|password|sig|signature)=[^&\s#]+",
)
_IN_ARGUMENT: Final = _known(r"(?:password|passwd|passphrase|secret|token|api_?key)=(?:'[^']+'|\"[^\"]+\")")
"""A field in the `repr` of an object: `password='…'`."""
_IN_MEMBER: Final = _known(
    r"((?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|authorization|cookie|credential)s?[\"']"
    r"\s{0,4}:\s{0,4}([\"']))(?!\*\*\*)(?:(?!\2)[^\\]|\\.){1,4096}",
)
"""A member of a JSON object, or of a dict's `repr`, within a text; group 1 stays."""
_HEADER_SIGNS: Final = ("authorization", "cookie", "api-key", "x-")
_IN_HEADER: Final = _known(
    r"(?<![A-Za-z0-9_-])((?:(?:proxy-)?authorization|(?:set-)?cookie|api-key|x-[a-z0-9-]{0,40}(?:key|token|secret))"
    r"\s{0,4}:\s{0,4})(?!\*\*\*|\s)[^\r\n'\"]{1,4096}",
)
"""A line of HTTP headers, to its end or to the quote that closes it; group 1 stays."""
_KEEP_NAME: Final = rf"\g<1>{REDACTED}"


def mask_text(text: str, *, scanned: int = _SCANNED) -> str:
    """The text with what is known for a secret by its form masked, in its first `scanned` (16 KiB); others pass."""
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
    if ":" in low:
        text = _IN_MEMBER.masked(text, low, _KEEP_NAME)
        if any(sign in low for sign in _HEADER_SIGNS):
            text = _IN_HEADER.masked(text, low, _KEEP_NAME)
    return text


def hides_nothing(text: str) -> bool:
    """Whether a short text has none of the signs that a secret in it would have."""
    return _FORM_SIGN.search(text) is None and ((":" not in text and "=" not in text) or _NAME.search(text) is None)
