"""Secrets in texts: those known by their form, and the one way in for all others.

`mask_text` replaces them. Most texts have none, so plain signs are looked for first: a few
substrings, and patterns that begin with one literal character, which the regular expression
engine finds as fast as a substring. Only a text with a sign is scanned by the patterns
themselves. What it costs is in proportion to the text, whatever the text.

Signs of vendors' tokens, and the pattern that finds them, are made from `secret_forms`; what
stands behind a name is found by `secret_values`, behind a flag by `secret_arguments`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from itertools import groupby
from typing import Final

from otel_agent_telemetry.patterns import lazy
from otel_agent_telemetry.secret_arguments import mask_arguments
from otel_agent_telemetry.secret_forms import TOKEN_FORMS, TokenForm
from otel_agent_telemetry.secret_names import REDACTED, lowered
from otel_agent_telemetry.secret_values import mask_values

_WINDOW: Final = 65_536
_SEAM: Final = 4_096
_IGNORE_CASE: Final = re.IGNORECASE

_BODIES: Final = {
    "letters": "[A-Za-z0-9]",
    "capitals": "[A-Z0-9]",
    "small": "[a-z0-9]",
    "hex": "[0-9a-fA-F]",
    "word": "[A-Za-z0-9_-]",
    "dotted": "[A-Za-z0-9_.-]",
    "base64": "[A-Za-z0-9+/=_-]",
    "words": "[A-Za-z0-9_-]",
}
_RANDOM: Final = lazy("[A-Za-z0-9]{16}|(?=[A-Za-z]{1,16}[0-9]|[0-9]{1,16}[A-Za-z])[A-Za-z0-9]{6}")
"""What plain words joined with dashes do not have: 16 letters or digits at a stretch, or 6 of both kinds."""
_LEAST_BODY: Final = 10
_BEGINS: Final = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt])|(?<=%[0-9A-Fa-f][0-9A-Fa-f]))"
"""At a word's begin; also behind an escaped line break in JSON, or an escaped character of a URL."""


def _any_of(texts: Iterable[str]) -> str:
    """Return a pattern of alternatives, those with the same first character together: a miss is decided sooner."""
    groups = [(first, [text[1:] for text in same]) for first, same in groupby(sorted(texts), key=lambda text: text[:1])]
    parts = [re.escape(first) + (_any_of(rest) if any(rest) else "") for first, rest in groups if first]
    if any(not first for first, _ in groups):
        return ""  # the shortest decides
    return parts[0] if len(parts) == 1 else f"(?:{'|'.join(parts)})"


def _alternatives(forms: Iterable[TokenForm]) -> str:
    """Return the expression that matches any of these forms."""
    return "|".join(f"{_prefix_of(form)}{_BODIES[form.body]}{{{form.least},}}" for form in forms)


def _prefix_of(form: TokenForm) -> str:
    """Return the expression of a form's beginning, in any case unless the form is exact."""
    prefixes = _any_of(form.prefixes)
    return prefixes if form.exact else f"(?i:{prefixes})"


def _token_pattern() -> str:
    """Return the pattern of every row; group `words` matches what has to have a random part besides."""
    sure = _alternatives(form for form in TOKEN_FORMS if form.body != "words")
    in_words = _alternatives(form for form in TOKEN_FORMS if form.body == "words")
    return f"{_BEGINS}(?:{sure}|(?P<words>{in_words}))"


def _token_mask(found: re.Match[str]) -> str:
    """Return what replaces a token: itself, where it is plain words."""
    words = found["words"]
    return REDACTED if words is None or _RANDOM.search(words) is not None else found[0]


def _separated(form: TokenForm, prefix: str) -> bool:
    """Return whether a prefix has a separator by which it is found: `github_pat_`, not `AKIA`."""
    return not form.exact and max(map(prefix.rfind, "-_.")) > 1


def _prefixes(*, separated: bool) -> list[str]:
    """Return the beginnings of tokens that end in a separator, or those that do not."""
    return [prefix for form in TOKEN_FORMS for prefix in form.prefixes if _separated(form, prefix) is separated]


def _sign_before(separator: str) -> str:
    """Return what stands at a separator that ends a token's prefix: its two characters before, the body behind."""
    low = [prefix.lower() for prefix in _prefixes(separated=True)]
    places = [(prefix, max(map(prefix.rfind, "-_."))) for prefix in low]
    ends = {prefix[at - 2 : at] for prefix, at in places if prefix[at] == separator}
    return rf"(?<={_any_of(ends)}{re.escape(separator)})(?=[a-z0-9+/=_.-]{{{_LEAST_BODY}}})"


def _tokens_by(separator: str) -> str:
    """Return the expression of a separator behind the beginning of a token."""
    return re.escape(separator) + _sign_before(separator)


def _capitals_from(first: str) -> str:
    """Return the expression of beginnings without a separator that begin with a letter."""
    return _any_of(prefix for prefix in _prefixes(separated=False) if prefix.startswith(first))


_TOKENS: Final = lazy(_token_pattern)
# Signs are for the text in lower case, and are wider than the forms: a sign without a secret costs
# one scan, a secret without a sign would be stored. A test tries a sample of each form.
_LITERALS: Final = tuple(prefix for prefix in _prefixes(separated=False) if not prefix[0].isupper())
"""Prefixes of tokens without a separator, that begin with a small letter."""
_CAPITALS: Final = {
    first: lazy(partial(_capitals_from, first))
    for first in sorted({prefix[0] for prefix in _prefixes(separated=False) if prefix[0].isupper()})
}
"""First letter → prefixes of tokens that begin with this capital, for the text as it is."""
# Each begins with the one character that `_has_sign` looks for before it asks the pattern.
_WEBHOOK_SIGN: Final = r"\.(?=slack|telegram|zapier|ifttt|make\.com|webhook|office|com/api/)"
# The two dots of a Discord bot's token: 24 or more characters, 6, 27.
_BOT_SIGN: Final = r"\.(?<=[a-z0-9_-]{23}\.)[a-z0-9_-]{6}\.[a-z0-9_-]{27}"
# The number of a Telegram bot, and 35 characters.
_TELEGRAM_SIGN: Final = ":(?<=[0-9]:)[a-z0-9_-]{35}(?![a-z0-9_-])"
_URL_SIGN: Final = r":(?=//[^\s@\"'<>]{1,300}@)"
# A line of `.pgpass`, whose second field is a port.
_LINE_SIGN: Final = r":(?:[0-9]{4,5}|\*):[^\s:]{1,64}:[^\s:]{1,64}:\S"
# A flag at the begin of a word: `-u`, `--token`, `["-p", …`.
_ARGUMENT_SIGN: Final = r"-(?<![^\s\"'`\[(,=]-)-?[a-z]"

_URL_END: Final = r"\s\"'<>`"
_WEBHOOK: Final = lazy(
    r"(\bhooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/|\bdiscord(?:app)?\.com/api/(?:v\d{1,2}/)?webhooks/"
    r"|\bapi\.telegram\.org/(?:file/)?bot|\bhooks\.zapier\.com/hooks/|\bhook\.(?:[a-z0-9]{1,16}\.)?make\.com/"
    r"|\bmaker\.ifttt\.com/trigger/[\w-]{1,64}/(?:json/)?with/key/|\.webhook\.office\.com/webhookb?2?/"
    rf"|\boutlook\.office(?:365)?\.com/webhook/)(?!\*\*\*)[^{_URL_END}?#]+",
    _IGNORE_CASE,
)
"""The address of a webhook or a bot: whoever knows it may post."""
_CREDENTIALS: Final = lazy(
    r"(?<=://)(?:"
    r"(?!\*\*\*)[^\s/:@?#\"'<>\\]{0,256}:(?!\d{1,5}(?:[^\w@.%+-]|$))"
    r"[^\s@\"'<>\\]{1,256}(?:@[^\s@?=&\"'<>\\]{0,256}(?<!/)(?=@)){0,8}"
    r"|[A-Za-z0-9_.~-]{20,256}"
    r")(?=@)"
)
"""User and password of a URL, also where `@` or `/` in the password is not escaped; or a token as the user."""
_PGPASS: Final = lazy(
    r"^((?:[\w.-]*[.\w-]|\*|/[\w./-]+):(?:\d{4,5}|\*):(?!\d+:)[^:\s]{1,64}:[^:\s]{1,64}:)(?!\*\*\*)[^\s:]{1,256}$",
    re.MULTILINE,
)
"""A line of `.pgpass`: host, port, database, user, password."""
# "Bearer token", "bearer auth-scheme" and the like are prose about it.
_BEARER: Final = lazy(
    r"\bBearer(?:\s{1,8}|%20|\+)(?!(?:auth|token|credential|scheme|format|securit|realm|challenge)[a-z]*\b"
    r"|[a-z]+(?:[_-][a-z]+)+\b)[A-Za-z0-9._~+/=-]{8,}",
    _IGNORE_CASE,
)
# "Basic knowledge" is prose: base64 has a digit, padding, or a capital within a word.
_BASIC: Final = lazy(
    r"\bBasic(?:\s{1,8}|%20)(?-i:(?=[A-Za-z/]{0,512}(?:[0-9=+]|[a-z][A-Z])))[A-Za-z0-9+/=]{8,}", _IGNORE_CASE
)
# `eyJ` is base64 of `{"`, how the header of a JSON Web Token begins.
_JWT: Final = lazy(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{10,}(?:\.[A-Za-z0-9_-]*){2,4}", _IGNORE_CASE)
_BOT_OF_DISCORD: Final = lazy(r"(?<![A-Za-z0-9_-])[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}")
_OTHER_FORMS: Final = (
    (lazy(_URL_SIGN), _CREDENTIALS, REDACTED),
    (lazy(_WEBHOOK_SIGN), _WEBHOOK, rf"\g<1>{REDACTED}"),
    (lazy("bearer"), _BEARER, REDACTED),
    (lazy("basic"), _BASIC, REDACTED),
    (lazy("eyj"), _JWT, REDACTED),
    (lazy(_TELEGRAM_SIGN), lazy(r"(?<![0-9])[0-9]{8,12}:[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"), REDACTED),
    (lazy(_BOT_SIGN), _BOT_OF_DISCORD, REDACTED),
    (lazy("-us[0-9]"), lazy(r"(?<![0-9a-f])[0-9a-f]{32}-us[0-9]{1,2}(?![0-9a-z])"), REDACTED),
    (lazy(_LINE_SIGN), _PGPASS, rf"\g<1>{REDACTED}"),
)
"""Secrets known by their form that have no prefix in `TOKEN_FORMS`: a sign in lower case, the form, the mask."""
_PRIVATE_KEY: Final = lazy(r"-----begin [a-z0-9 ]{0,40}private key(?: block)?-----")
_END_OF_KEY: Final = lazy(r"-----end [a-z0-9 ]{0,40}-----")


def mask_text(text: str) -> str:
    """Return the text with every secret that can be recognised replaced; the same object when there is none.

    Long texts are taken in windows of 64 Ki characters, cut at blanks, of which only those with a sign are scanned.
    """
    if not _has_sign(text, lowered(text)):
        return text
    masked = "".join(_mask(window) for window in _windows(_without_private_keys(text)))
    return text if masked == text else masked


def _windows(text: str) -> list[str]:
    """Return the text in parts of at most 64 Ki characters, cut at a blank where the last 4 Ki have one."""
    windows: list[str] = []
    at = 0
    while len(text) - at > _WINDOW:
        end = at + _WINDOW
        seam = max(text.rfind(" ", end - _SEAM, end), text.rfind("\n", end - _SEAM, end))
        end = seam if seam > 0 else end
        windows.append(text[at:end])
        at = end
    windows.append(text[at:])
    return windows


def _mask(text: str) -> str:
    """Return a part of a text with its secrets replaced. Only the patterns whose sign is in it are run."""
    low = lowered(text)
    if not _has_sign(text, low):
        return text
    for sign, form, mask in _OTHER_FORMS:
        if sign.search(low) is not None:
            text = form.sub(mask, text)
    if any(sign.search(low) is not None for sign in _TOKEN_SIGNS) or _has_capital_sign(text):
        text = _TOKENS.sub(_token_mask, text)
    if _has_arguments(low):
        text = mask_arguments(text)
    return mask_values(text) if "bearer" in low or _has_named(low) else text


def _without_private_keys(text: str) -> str:
    """Return the text with the bodies of PEM keys replaced, to the end where one is cut."""
    low = lowered(text)
    parts: list[str] = []
    done = 0
    while (begin := _PRIVATE_KEY.search(low, done)) is not None:
        end = _END_OF_KEY.search(low, begin.end())
        parts += text[done : begin.start()], REDACTED
        done = len(text) if end is None else end.end()
    return "".join((*parts, text[done:])) if parts else text


_TOKEN_SIGNS: Final = (
    *(lazy(partial(_tokens_by, separator)) for separator in "-_."),
    *(lazy(prefix.lower()) for prefix in _LITERALS),
)
_DASH: Final = lazy(lambda: rf"-(?:us[0-9]|(?<![1-9]-)(?:{_sign_before('-')}|{_ARGUMENT_SIGN[1:]}|----begin ))")
"""No prefix of a token ends in 1 to 9: dates and ids, where most dashes are, are decided by one character."""
_UNDERSCORE: Final = lazy(partial(_tokens_by, "_"))
_DOT: Final = lazy(lambda: rf"{_tokens_by('.')}|{_WEBHOOK_SIGN}|{_BOT_SIGN}")
_COLON: Final = lazy(rf"{_TELEGRAM_SIGN}|{_LINE_SIGN}")
_AT: Final = lazy(_URL_SIGN)
_SCHEME: Final = lazy("b(?:earer|asic[ %+\t\r\n])")
_ARGUMENT: Final = lazy(_ARGUMENT_SIGN)
_NAME_WITH_K: Final = lazy("k(?:ey|(?<=tok)en|(?<=cook)ie)")
_NAME_WITH_W: Final = lazy("w(?:(?<=pw)(?:d|(?![a-z]))|(?<=jw)t|(?<=kennw)ort)")


def may_hide(text: str) -> bool:
    """Return whether a text has a sign that a secret in it, or in the value whose JSON it is, would have."""
    return _has_sign(text, lowered(text))


def _has_sign(text: str, low: str) -> bool:
    """Return whether a text, also given in lower case, has a sign that a secret in it would have."""
    # Written out, not a loop: each payload passes here. A pattern that begins with one character is only asked
    # where that character is.
    return (
        ("-" in low and _DASH.search(low) is not None)
        or ("_" in low and _UNDERSCORE.search(low) is not None)
        or ("." in low and _DOT.search(low) is not None)
        or (":" in low and _COLON.search(low) is not None)
        or ("@" in low and _AT.search(low) is not None)
        or ("b" in low and _SCHEME.search(low) is not None)
        or "dapi" in low
        or ("~" in low and "sha256~" in low)
        or (low != text and _has_capital_sign(text))
        or _has_named(low)
    )


def _has_capital_sign(text: str) -> bool:
    """Return whether a text has a prefix that is compared as it is written: `AKIA`, `eyJ`, `SG.`."""
    return (
        ("J" in text and "eyJ" in text)
        or ("A" in text and _CAPITALS["A"].search(text) is not None)
        or ("G" in text and _CAPITALS["G"].search(text) is not None)
        or ("E" in text and _CAPITALS["E"].search(text) is not None)
        or ("S" in text and _CAPITALS["S"].search(text) is not None)
    )


def _has_named(low: str) -> bool:
    """Return whether a text has a word of a secret's name, and what stands between a name and its value."""
    return (
        ":" in low
        or "=" in low
        or '"' in low
        or "'" in low
        or ">" in low
        or "%3" in low
        or " is " in low
        or "login" in low
        or " set " in low
    ) and (
        _NAME_WITH_K.search(low) is not None
        or "pass" in low
        or _NAME_WITH_W.search(low) is not None
        or "secret" in low
        or "auth" in low
        or "credential" in low
        or ("sig" in low and "=" in low)
    )


def _has_arguments(low: str) -> bool:
    """Return whether a text may hold a command line, a line of `.netrc` or `config set`."""
    return _ARGUMENT.search(low) is not None or "login" in low or " set " in low


_HARMLESS_LENGTH: Final = 8_192
_MAX_VERDICTS: Final = 2_048
_MAX_REMEMBERED: Final = 1_024
known_harmless: Final[dict[str, None]] = {}
"""Texts, joined, that were found to have no sign: an application writes the same ones again and again."""


def is_harmless(text: str) -> bool:
    """Return whether a text, or some that are joined by LF, has no secret that can be recognised; False for long ones.

    The last thousands of answers are remembered for short texts, in `known_harmless`.
    """
    if text in known_harmless:
        return True
    if len(text) > _HARMLESS_LENGTH or mask_text(text) is not text:
        return False
    if len(text) <= _MAX_REMEMBERED:
        if len(known_harmless) >= _MAX_VERDICTS:
            known_harmless.clear()
        known_harmless[text] = None
    return True
