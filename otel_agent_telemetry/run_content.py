"""What a run's state says, as one text: the same for a journal line and a stored row of the same state.

Compared are the columns that a state alone decides: not its commits and postings, which are
stored apart, nor what the place that stores a run decides (`columns.OBSERVED_BY_STORE`). The text is
the values in the order of CONTENT_COLUMNS, joined by U+001F; None and the empty text are one, and a
number that is not given is 0.
`storage.contents` builds the same text in SQL. Equal texts are equal states; of different ones the
JSON may still be the same in another spelling; `run_digest` does not distinguish those. It is what
two machines compare.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

import orjson

from otel_agent_telemetry.columns import COMMIT_COLUMNS, JSON_COLUMNS, Fields
from otel_agent_telemetry.run_state import ORDER_COLUMNS
from otel_agent_telemetry.state_plan import NUMBERS

SEPARATOR: Final = "\x1f"
_OF_A_STATE: Final = ("event_id", *(name for name in ORDER_COLUMNS if name not in COMMIT_COLUMNS))
CONTENT_TEXTS: Final = tuple(name for name in _OF_A_STATE if name not in NUMBERS)
CONTENT_NUMBERS: Final = tuple(name for name in _OF_A_STATE if name in NUMBERS)
CONTENT_COLUMNS: Final = (*CONTENT_TEXTS, *CONTENT_NUMBERS)
"""The compared columns, texts first: most states are joined by one call."""
_JSON: Final = tuple(name for name in CONTENT_TEXTS if name in JSON_COLUMNS)
_NO_TEXTS: Final = ("",) * len(CONTENT_TEXTS)
_NO_NUMBERS: Final = (0,) * len(CONTENT_NUMBERS)
_NUMBERS: Final = SEPARATOR.join(["%s"] * len(CONTENT_NUMBERS))


def content_of(state: Fields) -> str:
    """Return the content of a state, which may be a journal line as it is."""
    get = state.get
    numbers = _NUMBERS % tuple(map(get, CONTENT_NUMBERS, _NO_NUMBERS))
    try:
        return SEPARATOR.join(map(get, CONTENT_TEXTS, _NO_TEXTS)) + SEPARATOR + numbers
    except TypeError:  # a None, or a value of another type in a line of other code
        texts = ("" if (text := get(name)) is None else str(text) for name in CONTENT_TEXTS)
        return SEPARATOR.join((*texts, numbers))


def run_digest(state: Fields) -> int:
    """Return 60 bits of a digest of a stored or storable state, the same on every machine.

    JSON counts as what it holds, whatever its spelling.
    """
    spelt = {name: _canonical_json(value) for name in _JSON if (value := state.get(name))}
    content = content_of({**state, **spelt} if spelt else state).encode("utf-8", "replace")
    return int.from_bytes(blake2b(content, digest_size=8).digest()) >> 4


def added_digests(digests: Iterable[int]) -> str:
    """Return the digest of a set of states in hexadecimal: the sum of theirs, in any order."""
    return f"{sum(digests) % (1 << 64):016x}"


def _canonical_json(text: str) -> str:
    """Return JSON text in one spelling, so that two texts of one value are equal."""
    try:
        # Members in one order: databases and proxies may return them in another.
        return orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS).decode()
    except (ValueError, TypeError):  # no JSON, or integers that only Python's own module reads
        return text
