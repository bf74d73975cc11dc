"""Names of secrets in texts: the whole name around a word, what stands before it, and how sure it is."""

from __future__ import annotations

from typing import Final, NamedTuple

from otel_agent_telemetry.patterns import lazy
from otel_agent_telemetry.secret_names import is_secret_key

_MAX_BEFORE: Final = 64
_LINE_BEGIN: Final = lazy(r"(?:^|[\r\n]|\\n)[ \t]*(?:[-*>#] ?)?(?:export |set |setx |declare -x |env )?[\"'`]?$")
_QUERY_NAMES: Final = frozenset({"sig", "signature", "x-amz-signature", "x-goog-signature", "hmac", "x-amz-credential"})
_WEAK: Final = frozenset(
    {"token", "auth", "pass", "cookie", "cookies", "credential", "credentials", "jwt", "secret", "secrets", "bearer"}
)
"""Names that, alone, are words of sentences and programs too: their value has to look like a secret."""
_QUALIFIERS: Final = frozenset(
    {"access", "api", "auth", "bearer", "refresh", "session", "bot", "client", "personal", "id", "oauth", "deploy"}
    | {"app", "user", "admin", "github", "gitlab", "slack", "service", "account", "signing", "webhook", "shared"}
)
"""Before `token` and `secret` in a sentence: no token of a grammar is meant."""


class NameInText(NamedTuple):
    """A name in a text, and where it stands."""

    text: str
    start: int
    before: str
    """The character before it."""
    is_quoted: bool
    is_sure: bool
    """Whether a secret surely follows: it is a flag, or the value of a member that names it."""

    @property
    def is_weak(self) -> bool:
        """Return whether the name alone does not mean that a secret follows."""
        return self.text.lower() in _WEAK and not self.is_sure

    @property
    def is_variable(self) -> bool:
        """Return whether it is written as variables of an environment are."""
        return self.text.isupper()

    @property
    def is_query_key(self) -> bool:
        """Return whether it is `key` in a query, which may be any key."""
        return self.text.lower() == "key"

    def begins_line(self, text: str) -> bool:
        """Return whether nothing but an indent, a list's dash or `export` stands before it in its line."""
        return _LINE_BEGIN.search(text, max(0, self.start - 40), self.start) is not None


def name_at(text: str, stem: int, end: int, *, is_quoted: bool) -> NameInText | None:
    """Return the whole name around a stem, if it is a secret's."""
    start, bound = stem, max(0, stem - _MAX_BEFORE)
    while start > bound and (text[start - 1].isalnum() or text[start - 1] in "_-.$"):
        start -= 1
    if start and text[start - 1] == "\\" and text[start] in "nrt":  # an escaped line break in JSON
        start += 1
    name = text[start:end].rstrip(".")
    before = text[start - 1 : start]
    is_flag = name.startswith("-")  # `--password` is no word of a sentence
    name = name.lstrip("-.$")
    # A list of tokens in JSON; a count of them is a number.
    is_named = is_secret_key(name) or (is_quoted and name.lower() == "tokens")
    if before == " " and not is_quoted and (not is_named or name.lower() in _WEAK):  # "API key: …", "access token: …"
        words = text[max(0, start - 24) : start - 1].split()
        word = words[-1] if words and words[-1].isalpha() else ""
        if is_secret_key(f"{word} {name}") if not is_named else word.lower() in _QUALIFIERS:
            return NameInText(f"{word} {name}", start - len(word) - 1, "", is_quoted, is_flag)
    if is_named or (before in ("?", "&", "#", ";") and _is_of_query(name)):
        return NameInText(name, start, before, is_quoted, is_flag)
    return None


def _is_of_query(name: str) -> bool:
    """Return whether a member of a query holds a signature or a key: `?sig=…`, `&key=…`."""
    return name.lower() in _QUERY_NAMES or name.lower() == "key"
