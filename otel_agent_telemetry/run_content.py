"""What a run's state says, as one text: the same for a journal line and a stored row of the same state.

Compared are the columns that a state alone decides: not its commits and postings, which are
stored apart, nor what the place that stores a run decides (`columns.OBSERVED_BY_STORE`). The text is
the values in the order of CONTENT_COLUMNS, joined by U+001F; None, 0 and the empty text are one.
`storage.contents` builds the same text in SQL. Equal texts are equal states; of different ones the
JSON may still be the same in another spelling.
"""

from __future__ import annotations

from typing import Any, Final

from otel_agent_telemetry.columns import COMMIT_COLUMNS, Fields
from otel_agent_telemetry.run_state import ORDER_COLUMNS
from otel_agent_telemetry.state_plan import NUMBERS

SEPARATOR: Final = "\x1f"
_OF_A_STATE: Final = ("event_id", *(name for name in ORDER_COLUMNS if name not in COMMIT_COLUMNS))
CONTENT_TEXTS: Final = tuple(name for name in _OF_A_STATE if name not in NUMBERS)
CONTENT_NUMBERS: Final = tuple(name for name in _OF_A_STATE if name in NUMBERS)
CONTENT_COLUMNS: Final = (*CONTENT_TEXTS, *CONTENT_NUMBERS)
"""The compared columns, texts first: most states are joined by one call."""
_NO_TEXTS: Final = ("",) * len(CONTENT_TEXTS)


def content_of(state: Fields) -> str:
    """Return the content of a state, which may be a journal line as it is."""
    get = state.get
    numbers = [str(get(name) or "") for name in CONTENT_NUMBERS]
    try:
        return SEPARATOR.join((*map(get, CONTENT_TEXTS, _NO_TEXTS), *numbers))
    except TypeError:  # a None, or a value of another type in a line of other code
        texts: list[Any] = [get(name) for name in CONTENT_TEXTS]
        return SEPARATOR.join((*("" if text is None else str(text) for text in texts), *numbers))
