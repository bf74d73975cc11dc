"""What a tuple of attribute names means, worked out once and kept.

An application uses few sets of names again and again. For each a plan says which names give
which column, which are left over for `context_json`, and whether a fast way exists at all:
`mapping.run_columns` is the rule, and a plan is that rule for names with plain values. What
a plan does not cover (secret names, JSON columns, names of frameworks whose values decide)
goes the long way. A property test compares the two.

Values are plain when each is a `str`, `int`, `float` or `bool` and no text shows a sign of a
secret (`secret_patterns.is_harmless`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any, Final

import orjson

from otel_agent_telemetry.column_checks import FREE_TEXT_COLUMNS
from otel_agent_telemetry.columns import COUNT_COLUMNS, JSON_COLUMNS, SETTABLE_COLUMNS, TOTAL_COLUMNS
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.content import OPENING, ContentRule, Verdict, is_listed_content
from otel_agent_telemetry.otel.conventions.convention import Kind
from otel_agent_telemetry.otel.mapping import left_over_names
from otel_agent_telemetry.otel.people_and_labels import decides
from otel_agent_telemetry.otel.plain_totals import plain_figures
from otel_agent_telemetry.otel.plan_code import MAX_VALUES, PLAIN_TYPES, PayloadEncoder, payload_encoder
from otel_agent_telemetry.otel.usage_attributes import COST_NAMES, MODEL_NAMES, TOKEN_NAMES, USAGE_NAMES
from otel_agent_telemetry.redaction import are_plain_names
from otel_agent_telemetry.secret_patterns import is_harmless, known_harmless

_MAX_PLANS: Final = 256
_MAX_NAMES: Final = 2_048
_MAX_NAME: Final = 256
_MAX_PICKERS: Final = 64
_FAST_BYTES: Final = 600_000
"""With less room than this for one payload, every one is measured: the long way."""
PLAIN_COLUMNS: Final = (FREE_TEXT_COLUMNS | COUNT_COLUMNS) - JSON_COLUMNS - {*TOTAL_COLUMNS}
"""Columns that take any text, or any count, as it is."""
_OBSERVED: Final = frozenset({"duration_ms"})
"""Settable columns that the end of a span decides."""
SET_AS_GIVEN: Final = PLAIN_COLUMNS - _OBSERVED
"""Columns whose value a client sets as it is."""
_WORK_NAMES: Final = frozenset(
    {*names.KINDS, *names.AGENT_NAMES, *names.AGENT_NAMES_BESIDE, *names.AGENT_VERBS, *USAGE_NAMES}
)
"""Names by which a span says that it is an agent's doing, or a call."""


class AttributePlan:
    """What some attribute names give. `fast` is False where only the long way is right.

    `columns`: (name, column, whether it is a count) for `agent.run.*`. `conventional`: (name,
    column) of semantic conventions. `left_over`: names for `context_json`. `verdicts`: what the rule for
    content keeps of texts under each name, `unknown_max` characters of one under an unknown name.
    `may_be_agent`, `counts`, `reports_use`: whether the values must be looked at for an agent's
    invocation, for use (model calls, tool calls), for what the whole used. `figures`: `plain_figures` of the names.
    `agent_names`, `job_types`: the names that give them, the first that counts first. `is_marked`:
    whether a name asks for a run. `encode_payload` returns the JSON of attributes as the payload of an event; None
    where the long way is the only one.
    `encode_kept` does so for the attributes of a step, where all of them are kept.
    `leaves_work_to_name`: whether the names leave it to the span's own name, and nothing else, to say that it is
    an agent's doing, a call or a run (`span_work`).
    """

    __slots__ = (
        "columns",
        "conventional",
        "counts",
        "encode_payload",
        "fast",
        "fast_payload",
        "figures",
        "left_over",
        "may_be_agent",
        *(
            "agent_names",
            "encode_kept",
            "is_marked",
            "job_types",
            "reports_use",
            "leaves_work_to_name",
            "unknown_max",
            "verdicts",
        ),
        *(
            "_compiled_from",
            "_content",
            "_keys",
            "_kept_from",
            "_kinds",
            "_measured",
            "_names_person",
            "_pick_words",
            "_text_pickers",
        ),
    )

    def __init__(self, keys: tuple[str, ...], rule: ContentRule, *, is_fast: bool, compiled_from: int) -> None:
        self.fast_payload = is_fast and _are_plain_names(keys)
        is_payload = rule.capture or not any(map(is_listed_content, keys))
        self.encode_payload: PayloadEncoder = self._first_payloads if self.fast_payload and is_payload else _long_way
        self._kept_from = self._compiled_from = compiled_from if 0 < len(keys) <= MAX_VALUES else -1
        # An application may give whatever a dict takes; members of an enumeration of texts are texts.
        keys = tuple(str.__str__(key) for key in keys if isinstance(key, str))
        values_decide = not names.VALUES_DECIDE.isdisjoint(keys) or decides(keys, rule.user_ids)
        self.fast = self.fast_payload and not values_decide
        self.columns: list[tuple[str, str, bool]] = []
        given = [(key, column) for key, column in names.CONVENTIONAL_COLUMNS.items() if key in keys]
        self.conventional = given[::-1]  # of two that give one column the first counts: it is written last
        self.left_over = left_over_names(keys)
        self._keys = keys
        self._text_pickers: dict[tuple[type, ...], Callable[[Mapping[str, Any]], Any]] = {}
        self.verdicts = verdicts = {key: rule.verdict(key) for key in keys}
        self._content = tuple(key for key, verdict in verdicts.items() if verdict in (Verdict.CONTENT, Verdict.URL))
        self._names_person = Verdict.PERSON in verdicts.values()
        self._measured = tuple(key for key, verdict in verdicts.items() if verdict is Verdict.SHORT)
        self.unknown_max = rule.unknown_max
        self.encode_kept: PayloadEncoder = (
            self._first_kept if self.fast_payload and not self._names_person else _long_way
        )
        marked = [key for key in keys if key.startswith(names.PREFIX)]
        self.may_be_agent = bool(marked) or not names.AGENT_KINDS.isdisjoint(keys)
        self.is_marked = names.is_marked(dict.fromkeys(keys))
        self.leaves_work_to_name = _WORK_NAMES.isdisjoint(keys) and set(marked) <= {names.RUN_ID}
        self.agent_names = tuple(key for key in names.AGENT_NAMES if key in keys)
        self.job_types = tuple(key for key in names.JOB_TYPES if key in keys)
        words = [key for key in names.KINDS if key in keys]
        self._pick_words = itemgetter(*words) if words else None
        self._kinds: dict[tuple[str, Any], Kind | None] = {}
        self.counts = not USAGE_NAMES.isdisjoint(keys)
        self.reports_use = not (TOKEN_NAMES | COST_NAMES | MODEL_NAMES).isdisjoint(keys)
        self.figures = plain_figures(keys) if self.reports_use else ()
        if self.fast:
            self._take_marked(marked)

    def _take_marked(self, marked: Iterable[str]) -> None:
        """Note the columns that `agent.run.*` names set; a name that takes a check of its own ends the fast way."""
        for key in marked:
            column = key[len(names.PREFIX) :]
            if key in (names.RUN_ID, names.STATUS) or column in _OBSERVED:
                continue
            if column not in SETTABLE_COLUMNS or column not in PLAIN_COLUMNS:
                self.fast = False  # unknown, or a column with a check of its own
                return
            self.columns.append((key, column, column in COUNT_COLUMNS))

    def keeps_all(self, attributes: Mapping[str, Any]) -> bool:
        """Return whether the rule for content has nothing to say to plain attributes with the names of this plan."""
        for key in self._measured:
            value = attributes[key]
            if type(value) is str and (len(value) > self.unknown_max or value[:1] in OPENING):
                return False
        if self._names_person:
            return False
        return not self._content or all(type(attributes[key]) is not str for key in self._content)

    def kind_of(self, attributes: Mapping[str, Any], span_name: str) -> Kind | None:
        """Return `names.kind_of`, which is remembered for the name of a span and the words that decide."""
        pick_words = self._pick_words
        if pick_words is None:
            return None
        words = (span_name, pick_words(attributes))
        try:
            return self._kinds[words]
        except KeyError:
            pass
        except TypeError:  # a list is no word
            return names.kind_of(attributes, span_name)
        if len(self._kinds) >= _MAX_PICKERS:
            self._kinds.clear()
        # A race: two threads may both work it out, and store the same.
        kind = self._kinds[words] = names.kind_of(attributes, span_name)
        return kind

    def agent_name_in(self, attributes: Mapping[str, Any]) -> str:
        """Return the name that an attribute gives; empty where it takes a longer look."""
        for key in self.agent_names:
            if (value := attributes[key]) and type(value) is str:
                return value
        return ""

    def _first_payloads(self, attributes: dict[str, Any]) -> bytes | None:
        """Encode the payloads that come before there is a function for those with these names."""
        self._compiled_from -= 1
        if self._compiled_from == 0 and PLAIN_TYPES.issuperset(map(type, attributes.values())):
            self.encode_payload = payload_encoder(attributes, self._plain_payload)
        return self._plain_payload(attributes)

    def _first_kept(self, attributes: dict[str, Any]) -> bytes | None:
        """Encode what is kept whole of the first steps with these names, as `_first_payloads` does."""
        self._kept_from -= 1
        is_plain = PLAIN_TYPES.issuperset(map(type, attributes.values()))
        if self._kept_from == 0 and is_plain and self.keeps_all(attributes):
            encode = payload_encoder(
                attributes, self._plain_kept, short=self._measured, max_length=self.unknown_max, opening=OPENING
            )
            self.encode_kept = encode
        return self._plain_kept(attributes)

    def _plain_kept(self, attributes: dict[str, Any]) -> bytes | None:
        return self._plain_payload(attributes) if self.keeps_all(attributes) else None

    def _plain_payload(self, attributes: dict[str, Any]) -> bytes | None:
        """Return plain attributes as JSON; None where they have to be cleaned."""
        if not self.takes_as_they_are(attributes):
            return None
        try:
            return orjson.dumps(attributes) if attributes else b"null"
        except orjson.JSONEncodeError:  # a lone surrogate, a number beyond 64 bits
            return None

    def takes_as_they_are(self, attributes: Mapping[str, Any]) -> bool:
        """Return whether names and values are plain, so that neither OpenTelemetry nor we have to clean them.

        `attributes` have the names of this plan.
        """
        if not self.fast_payload:
            return False
        # By exact types: a subclass of `str` may turn into anything when it is encoded.
        types = tuple(map(type, attributes.values()))
        pick_texts = self._text_pickers.get(types) or self._text_picker(types)
        if pick_texts is None:
            return False
        texts = "\n".join(pick_texts(attributes))
        return texts in known_harmless or is_harmless(texts)

    def _text_picker(self, types: tuple[type, ...]) -> Callable[[Mapping[str, Any]], Any] | None:
        """Return, and keep, what picks the texts out of attributes of plain types; None for other types.

        Those are not kept: the classes are the application's, of any number and size.
        """
        if not PLAIN_TYPES.issuperset(types):
            return None
        if len(self._text_pickers) >= _MAX_PICKERS:
            self._text_pickers.clear()
        texts = [key for key, kind in zip(self._keys, types, strict=True) if kind is str]
        # Of a single name an `itemgetter` gives the value, not a tuple: it is asked for twice.
        picker = itemgetter(*texts, texts[-1]) if texts else _no_texts
        self._text_pickers[types] = picker
        return picker


def _long_way(_attributes: dict[str, Any]) -> None:
    """Return None: a payload with these names is never plain."""


def _no_texts(_attributes: Mapping[str, Any]) -> tuple[()]:
    """Return no text, of attributes that have none."""
    return ()


def _are_plain_names(keys: tuple[str, ...]) -> bool:
    """Return whether names are few, short, and neither name a secret nor look like a line."""
    return (
        len(keys) <= _MAX_NAMES
        and all(
            # A line whose payload begins with this name would look like two.
            type(key) is str and 0 < len(key) <= _MAX_NAME and key != "record_type"
            for key in keys
        )
        and are_plain_names(keys)
    )


class AttributePlans(dict[tuple[str, ...], AttributePlan]):
    """Names in their order → their plan, made when it is asked for. Safe under threads: entries are only added.

    `rule`: what is message content. `max_bytes`: the size of one payload above which it is
    truncated; where that is little, no plan is fast. `compiled_from`: how often names come before a
    function is generated for them (5). `chooses`: whether content is kept for some agents or projects alone.
    """

    __slots__ = ("_is_fast", "chooses", "compiled_from", "rule")

    def __init__(self, rule: ContentRule, *, max_bytes: int, chooses: bool = False) -> None:
        super().__init__()
        self.rule = rule
        self.chooses = chooses
        self.compiled_from = 5
        self._is_fast = max_bytes >= _FAST_BYTES

    def __missing__(self, names: tuple[str, ...]) -> AttributePlan:
        if len(self) >= _MAX_PLANS:  # an application that makes names up must not fill the memory
            self.clear()
        plan = self[names] = AttributePlan(names, self.rule, is_fast=self._is_fast, compiled_from=self.compiled_from)
        return plan
