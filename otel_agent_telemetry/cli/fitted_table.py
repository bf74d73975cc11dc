"""A table of a terminal: one line a row, at most as wide as the terminal, and nothing folded.

Columns of ids, times and figures keep their width. One column takes what the others leave, and those with a share
of the line are cut to it; what is cut ends with `…`.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from otel_agent_telemetry.cli.output import cells_of, print_line, print_table, shortened, style_of, width_of_stdout

WIDE = 110
"""From so many columns on a row has the whole date, and more columns."""
_LEAST_SHARED = 8
"""Characters that a column with a share keeps on the narrowest terminal."""


class Column(NamedTuple):
    """A heading and the printable cells below it.

    `right`: whether they end at one line, as numbers do. `share`: of the line that the column may take at most; 0 for
    one that is never cut. `rest`: whether it takes what the other columns leave; one column of a table does.
    """

    heading: str
    cells: list[str]
    right: bool = False
    share: float = 0.0
    rest: bool = False


def print_fitted(columns: Sequence[Column], *, width: int, statuses: Iterable[str]) -> None:
    """Print the headings, then one line a row in the colour of its status; each at most `width` characters."""
    widths = _widths(columns, width)
    print_line(_line([one.heading for one in columns], columns, widths))
    for number, status in enumerate(statuses):
        print_line(_line([one.cells[number] for one in columns], columns, widths), style_of(status))


def print_columns(columns: Sequence[Column], *, statuses: Iterable[str]) -> None:
    """Print a table that fits the terminal; in a pipe or a file each column is as wide as its widest cell."""
    if (width := width_of_stdout()) is not None:
        print_fitted(columns, width=width, statuses=statuses)
    else:
        print_table([one.heading for one in columns], zip(*(one.cells for one in columns), strict=True))


def _widths(columns: Sequence[Column], width: int) -> list[int]:
    """Return the width of each column; below what all the headings need, the lines are longer than the terminal."""
    widths = [max(map(cells_of, (one.heading, *one.cells))) for one in columns]
    for at, one in enumerate(columns):
        if one.share:
            widths[at] = min(widths[at], max(int(width * one.share), len(one.heading)))
    rest = next(at for at, one in enumerate(columns) if one.rest)
    least = len(columns[rest].heading)
    used = sum(widths) - widths[rest] + len(columns) - 1
    for at, one in enumerate(columns):
        if one.share and (missing := used + least - width) > 0:
            taken = min(missing, max(widths[at] - _LEAST_SHARED, 0))
            widths[at] -= taken
            used -= taken
    widths[rest] = max(min(widths[rest], width - used), least)
    return widths


def _line(cells: Iterable[str], columns: Sequence[Column], widths: Sequence[int]) -> str:
    """Return one line of the table."""
    fitted = []
    for cell, one, width in zip(cells, columns, widths, strict=True):
        shown = shortened(cell, width)
        # Not `ljust`: it counts characters, and some take two cells of the terminal.
        filling = " " * (width - cells_of(shown))
        fitted.append(filling + shown if one.right else shown + filling)
    return " ".join(fitted).rstrip()
