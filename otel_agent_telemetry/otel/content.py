"""Which attributes are stored where message content is not asked for. Pure.

An attribute is kept by its name, its value's type and, under an unknown name, its length. In
this order:

1. `agent.run.*` and names that the application allows; nothing under a name of a person
   (`conventions.USER_IDS`), unless a setting keeps it; numbers and booleans;
2. names that the table of conventions knows as no content; of a URL all but its query;
3. no text under a name or namespace that the table lists as content, or whose last word is one
   of its content words (`user_prompt`, `toolCall.args`, `messages.0.content`);
4. texts under a namespace that the table knows as no content (`http`, `k8s` …);
5. texts of at most `unknown_max` characters.

A list of texts is a text of their joint length; a list or map under a name of kind 3 is
content as a whole. Members of a map under an unknown name are judged one by one, and share the
characters. Names are compared in lower case.

An event under a name of the application's own is the application's record: of it only
attributes that the table lists as a convention's content are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, time
from enum import Enum
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.conventions.content_words import CONTENT_ENDINGS, CONTENT_WORDS, FORMAT_WORDS
from otel_agent_telemetry.otel.left_out import NOTHING, count, count_names, counted_name
from otel_agent_telemetry.patterns import lazy
from otel_agent_telemetry.recording.active_runs import ResourceDefaults

_MAX_VERDICTS: Final = 4_096
_MAX_KEY: Final = 256
_HALF_KEY: Final = _MAX_KEY // 2
_MAX_DEPTH: Final = 16
_WORDS: Final = lazy(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_INDEX: Final = lazy(r"(?:\.[0-9]+)+\Z")
_MEMBER: Final = lazy(r"[\"']([^\"'\n]{1,64})[\"']\s*:")
"""The name of a member in a text that is JSON, or the `repr` of a dict."""
_SCALARS: Final = (date, time, UUID)


class Verdict(Enum):
    """What is kept of the texts under a name."""

    KEEP = "all"
    URL = "all but the query of the URL"
    SHORT = "short texts"
    CONTENT = "none"
    PERSON = "nothing, numbers neither"


_KEEP: Final = Verdict.KEEP
_CONTENT: Final = Verdict.CONTENT
_PERSON: Final = Verdict.PERSON
_NUMBERS: Final = frozenset({int, float, bool, type(None)})


class ContentRule:
    """The rule for one configuration. Safe under threads: what it remembers is only added to.

    `capture`: keep everything; default no. `unknown_max`: characters of a text under an unknown
    name. `allow`: names to keep, with those below them (`a.b` and `a.*` keep `a.b.c`).
    `user_ids`: `keep` keeps attributes that name a person.
    """

    __slots__ = ("_allowed", "_verdicts", "capture", "ruled_events", "unknown_max", "user_ids")

    def __init__(
        self, *, capture: bool = False, unknown_max: int = 64, allow: Iterable[str] = (), user_ids: str = "off"
    ) -> None:
        self.capture = capture
        self.user_ids = user_ids
        self.unknown_max = unknown_max
        self._allowed = frozenset(name.lower().removesuffix("*").rstrip(".") for name in allow)
        self._verdicts: dict[str, Verdict] = {}
        self.ruled_events = _RuledEvents(frozenset() if capture else names.CONVENTION_EVENTS)
        """Name of an event → whether it is one of a convention, whose attributes are judged one by one."""

    def verdict(self, name: str) -> Verdict:
        """Return what is kept of texts under a name; of a long one beginning and end count."""
        if len(name) > _MAX_KEY:
            name = f"{name[:_HALF_KEY]}.{name[-_HALF_KEY:]}"
        known = self._verdicts.get(name)
        if known is None:
            if len(self._verdicts) >= _MAX_VERDICTS:  # an application that makes names up must not fill the memory
                self._verdicts.clear()
            known = self._verdicts[name] = self._judge(name)
        return known

    def _judge(self, name: str) -> Verdict:
        """Return the verdict on a name, by the order that the module describes."""
        if self.capture or name.startswith(names.PREFIX):
            return Verdict.KEEP
        low = name.lower()
        # Before the names of persons: what the application allows by name, it has decided about.
        if self._allowed and not self._allowed.isdisjoint(_namespaces(low)):
            return Verdict.KEEP
        if low in _PERSONS:
            return Verdict.KEEP if self.user_ids == "keep" else Verdict.PERSON
        listed = _listed(low)
        if listed is not None:
            return listed
        if names_content(name):
            return Verdict.CONTENT
        is_known = not names.KNOWN_NAMESPACES.isdisjoint(_namespaces(low))
        return Verdict.KEEP if is_known else Verdict.SHORT

    def keep(self, attributes: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, int]]:
        """Return the attributes that are kept, and how often each name was left out.

        The attributes themselves where nothing is left out.
        """
        if self.capture:
            return attributes, NOTHING
        kept: dict[str, Any] = {}
        left_out: dict[str, int] = {}
        verdicts = self._verdicts
        for name, value in attributes.items():
            # A lookup first: the method call costs more than the whole decision, and most names are known.
            verdict = verdicts.get(name) or self.verdict(name if type(name) is str else str(name))
            if verdict is _KEEP or (verdict is not _PERSON and type(value) in _NUMBERS):
                kept[name] = value
            elif verdict is _CONTENT and type(value) is str:
                count(left_out, name)
            elif (pruned := self._pruned(name, verdict, value, left_out)) is not _OUT:
                kept[name] = pruned
        return (kept, left_out) if left_out else (attributes, NOTHING)

    def keep_of_event(self, event: object, payload: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, int]]:
        """Return the same for the payload of an event, of which most is kept unless it is one of a convention."""
        if self.capture or (type(event) is str and self.ruled_events[event]):
            return self.keep(payload)
        left_out = count_names(
            key for key in payload if is_listed_content(key) and self.verdict(key) is Verdict.CONTENT
        )
        if not left_out:
            return payload, NOTHING
        return {key: value for key, value in payload.items() if counted_name(key) not in left_out}, left_out

    # --- values

    def _pruned(self, name: str, verdict: Verdict, value: Any, left_out: dict[str, int]) -> Any:
        """Return what is kept of a value; `_OUT`, and counts it, for nothing."""
        if verdict is Verdict.PERSON and value is not None:
            count(left_out, name)
            return _OUT
        if verdict is Verdict.KEEP or isinstance(value, (int, float)) or value is None:
            return value
        if verdict is Verdict.SHORT and type(value) is str:
            if len(value) <= self.unknown_max and not _has_content_member(value):
                return value
            count(left_out, name)
            return _OUT
        before = len(left_out)
        room = _Room(self.unknown_max)
        kept = _OUT if verdict is Verdict.CONTENT else self._limited(name, verdict, value, room, left_out, 0)
        if kept is _OUT or (verdict is Verdict.URL and kept != value and len(left_out) == before):
            count(left_out, name)
        return kept

    def _limited(
        self, name: str, verdict: Verdict, value: Any, room: _Room, left_out: dict[str, int], depth: int
    ) -> Any:
        """Return what is kept of a value that is judged by its length or as a URL."""
        if isinstance(value, (bool, int, float, *_SCALARS)) or value is None:
            return value
        if isinstance(value, (str, bytes, bytearray)):
            return _limited_text(verdict, value, room)
        if depth < _MAX_DEPTH and isinstance(value, Mapping):
            return self._limited_map(name, value, room, left_out, depth)
        if depth < _MAX_DEPTH and isinstance(value, (list, tuple, set, frozenset)):
            items = [self._limited(name, verdict, item, room, left_out, depth + 1) for item in value]
            # All or nothing: a list with gaps would say something that its sender did not.
            return _OUT if any(item is _OUT for item in items) else items
        return _OUT

    def _limited_map(
        self, name: str, value: Mapping[Any, Any], room: _Room, left_out: dict[str, int], depth: int
    ) -> Any:
        """Return the members of a map that are kept, each judged by its own name."""
        kept: dict[Any, Any] = {}
        for key, item in value.items():
            below = f"{name}.{key}"
            verdict = self.verdict(below)
            if verdict is Verdict.KEEP or isinstance(item, (bool, int, float)) or item is None:
                kept[key] = item
                continue
            limited = _OUT
            if verdict is not Verdict.CONTENT:
                limited = self._limited(below, verdict, item, room, left_out, depth + 1)
            if limited is _OUT:
                count(left_out, below)
            else:
                kept[key] = limited
        return kept


class _RuledEvents(dict[str, bool]):
    """Names are worked out when they are asked for: there are few, and they come again and again."""

    __slots__ = ("_ruled",)

    def __init__(self, ruled: frozenset[str]) -> None:
        super().__init__()
        self._ruled = ruled

    def __missing__(self, name: str) -> bool:
        is_ruled = not self._ruled.isdisjoint(_namespaces(name[:_MAX_KEY].lower()))
        if len(name) <= _MAX_KEY:
            if len(self) >= _MAX_VERDICTS:
                self.clear()
            self[name] = is_ruled
        return is_ruled


class _Room:
    """How many characters are left for the texts of one attribute."""

    __slots__ = ("_left",)

    def __init__(self, characters: int) -> None:
        self._left = characters

    def takes(self, characters: int) -> bool:
        """Return whether a text still fits, and take its characters if it does."""
        if characters > self._left:
            return False
        self._left -= characters
        return True


_OUT: Final = object()
_PERSONS: Final = frozenset(name.lower() for name in names.USER_IDS)


def _limited_text(verdict: Verdict, text: str | bytes | bytearray, room: _Room) -> Any:
    """Return what is kept of one text: of a URL all but the query, of another one all or nothing."""
    if isinstance(text, str):
        if verdict is Verdict.URL:
            return without_query(text)
        if _has_content_member(text):
            return _OUT
    return text if room.takes(len(text)) else _OUT


@lru_cache(maxsize=64)
def _rule(capture: bool, unknown_max: int, allow: tuple[str, ...], user_ids: str) -> ContentRule:
    """Return the rule of these settings."""
    return ContentRule(capture=capture, unknown_max=unknown_max, allow=allow, user_ids=user_ids)


def rule_of(around: ResourceDefaults) -> ContentRule:
    """Return the rule of a configuration, the same one each time."""
    return _rule(around.capture_content, around.unknown_text_max, around.content_allow, around.user_ids)


# --- names


def names_content(name: str) -> bool:
    """Return whether the last word of a name is one of content; words that tell a format or a part are passed over."""
    for word in reversed(_WORDS.findall(name)):
        low = word.lower()
        if low not in FORMAT_WORDS:
            return low in _CONTENT_WORDS or low.endswith(CONTENT_ENDINGS)
    return False


def is_listed_content(name: object) -> bool:
    """Return whether the table lists a name of a convention as content."""
    return type(name) is str and _is_listed_content(name[:_MAX_KEY])


@lru_cache(maxsize=_MAX_VERDICTS)
def _is_listed_content(name: str) -> bool:
    """Return whether the table lists a name, cut to its beginning, as content."""
    return "." in name and _listed(name.lower()) is Verdict.CONTENT


def _listed(low: str) -> Verdict | None:
    """Return what the table says of a name, or of the longest namespace that it is in; None for nothing."""
    name = _INDEX.sub("", low)
    if name in names.KNOWN:
        return Verdict.KEEP
    if name in names.URLS:
        return Verdict.URL
    if name in names.CONTENT:
        return Verdict.CONTENT
    for namespace in _namespaces(low):
        if namespace in names.CONTENT_NAMESPACES:
            return Verdict.CONTENT
        if namespace in names.FIGURES:
            return Verdict.KEEP
    return None


def _namespaces(low: str) -> Iterable[str]:
    """Yield a dotted name and each namespace that it is in, the longest first."""
    while low:
        yield low
        low = low.rpartition(".")[0]


def _plurals(word: str) -> tuple[str, ...]:
    """Return a word and its plurals."""
    return word, f"{word}s", f"{word[:-1]}ies" if word.endswith("y") else word


_CONTENT_WORDS: Final = frozenset(form for word in CONTENT_WORDS for form in _plurals(word))


def _has_content_member(text: str) -> bool:
    """Return whether a text is JSON, or the `repr` of a dict, with a member that says content."""
    return text[:1] in OPENING and any(names_content(name) for name in _MEMBER.findall(text))


OPENING: Final = frozenset("{[")
"""What a text that may hold members begins with."""


def without_query(url: str) -> str:
    """Return a URL without its query and fragment; of one that holds data itself only the scheme."""
    if url[:5].lower() == "data:":
        return "data:"
    return url.partition("#")[0].partition("?")[0]
