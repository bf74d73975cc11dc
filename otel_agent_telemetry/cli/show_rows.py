"""Which rows of a run's tree `show` prints, and how: long runs in parts, with what is between counted."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from otel_agent_telemetry import status as st
from otel_agent_telemetry.cli.item_words import described
from otel_agent_telemetry.cli.output import (
    format_clock,
    printable,
    shortened,
    style_of,
)
from otel_agent_telemetry.last_error import EXCEPTION
from otel_agent_telemetry.model import RunEvent, RunRecord, RunSpan
from otel_agent_telemetry.operations.line_items import Item
from otel_agent_telemetry.operations.run_outline import OutlineRow

_FAILED = (st.FAILED, st.TIMEOUT, "error")
_SHARE_AT_BEGINNING = 0.6
_MESSAGE = "exception.message"


class Part(NamedTuple):
    """Rows that follow each other, and how many rows before them are left out."""

    left_out: int
    rows: Sequence[OutlineRow]


def parts_of(
    rows: Sequence[OutlineRow], *, most: int, errors: bool = False, last: int | None = None, around: str | None = None
) -> list[Part]:
    """Return the parts of a tree, without the run itself, that are shown.

    At most `most` rows, of a long tree its beginning and its end.

    `errors`: what failed, with what it stands in. `last`: that many rows at the end. `around`: those before and
    after a time in our form.
    """
    if errors:
        return _runs_of(rows, sorted(_failed_with_places(rows)))
    if last is not None:
        return _runs_of(rows, range(max(len(rows) - last, 0), len(rows)))
    if len(rows) <= most:
        return [Part(0, rows)]
    if around is not None:
        nearest = sum(time_of(row.item) < around for row in rows)
        begin = min(max(nearest - most // 2, 0), len(rows) - most)
        return _runs_of(rows, range(begin, begin + most))
    # More of the beginning: what a run set out to do is read before how it ended.
    at_beginning = int(most * _SHARE_AT_BEGINNING)
    return _runs_of(rows, [*range(at_beginning), *range(len(rows) - (most - at_beginning), len(rows))])


def _runs_of(rows: Sequence[OutlineRow], numbers: Sequence[int]) -> list[Part]:
    """Return the rows with these numbers, in ascending order, as parts; the last may only count what follows it."""
    parts: list[Part] = []
    after = 0
    for number in numbers:
        # The first part has nothing before it that could be joined, also where nothing is left out.
        if number == after and parts:
            parts[-1] = Part(parts[-1].left_out, [*parts[-1].rows, rows[number]])
        else:
            parts.append(Part(number - after, [rows[number]]))
        after = number + 1
    return parts if after == len(rows) else [*parts, Part(len(rows) - after, ())]


def _failed_with_places(rows: Sequence[OutlineRow]) -> set[int]:
    """Return the numbers of the rows that failed and of those around them."""
    found: set[int] = set()
    around: list[int] = []
    for number, row in enumerate(rows):
        del around[len(row.more_follows) - 1 :]  # directly under the run a row has one level
        around.append(number)
        if _is_failed(row.item):
            found.update(around)
    return found


def _is_failed(item: Item) -> bool:
    """Return whether a step or a run failed, or an event is an exception."""
    return item.event_type == EXCEPTION if isinstance(item, RunEvent) else item.status in _FAILED


def time_of(item: Item) -> str:
    """Return when an item happened or began."""
    return item.timestamp if isinstance(item, RunEvent) else item.start_time


def without_repeats(rows: Sequence[OutlineRow], cause: str | None) -> Iterator[OutlineRow]:
    """Yield the rows without events of exceptions that a step or the run's cause says already: one exception once.

    An exception passes through every step around it, and each of them records it.
    """
    known = {cause or ""} | {item.status_message or "" for row in rows if isinstance(item := row.item, RunSpan)}
    for row in rows:
        item = row.item
        if isinstance(item, RunEvent) and item.event_type == EXCEPTION and isinstance(item.payload, Mapping):
            # By the message: the type is `RuntimeError` here and `module.RuntimeError` there.
            message = str(item.payload.get(_MESSAGE) or "")
            if message and any(message in text for text in known):
                continue
        yield row


def text_of(row: OutlineRow, width: int, *, utc: bool) -> tuple[str, str]:
    """Return the line of a row, cut to a width, and the style of its status."""
    item = row.item
    text = f"{row.guides}{format_clock(time_of(item), utc=utc)}  {printable(_with_id(item))}"
    return shortened(text, width), "" if isinstance(item, RunEvent) else style_of(item.status)


def _with_id(item: Item) -> str:
    """Return an item in words, a run inside the shown one with the id that shows it."""
    words = described(item)
    return f"run {words}  {item.run_id}" if isinstance(item, RunRecord) else words


Printer = Callable[[str, str], None]
"""Prints one line in a style."""


def print_parts(parts: Sequence[Part], printer: Printer, width: int, *, utc: bool) -> None:
    """Print the parts of a tree, and between them how many rows are left out."""
    for part in parts:
        if part.left_out:
            printer(f"… {part.left_out:,} more rows …", "")
        for row in part.rows:
            printer(*text_of(row, width, utc=utc))
