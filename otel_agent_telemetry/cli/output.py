"""Printing: lines, tables, JSON and progress bars.

Colours and frames appear on a terminal, plain columns in a pipe or a file. Results go to
stdout, notes and errors to stderr.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from otel_agent_telemetry.cli.formatting import printable

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[[int, int | None], None]
"""Called with what is done and with all there is; None when that is not known."""

_STYLES = {
    "success": "green",
    "ok": "green",
    "running": "cyan",
    "partial": "yellow",
    "warn": "yellow",
    "cancelled": "yellow",
    "failed": "red",
    "timeout": "red",
    "error": "red",
}


def style_of(word: str) -> str:
    """Return the Rich style of a status or a level, "" for any other word."""
    return _STYLES.get(word, "")


def print_line(text: str = "", style: str = "") -> None:
    """Print one line on stdout; `text` must be printable already (`formatting.printable`)."""
    if style and sys.stdout.isatty():
        _console().print(text, style=style)
    else:
        print(text)


def print_stderr(text: str) -> None:
    """Print a note or an error as one line on stderr, where it does not mix with piped results."""
    print(printable(text), file=sys.stderr)


def print_json(value: Any) -> None:
    """Print the value as JSON in ASCII: safe on any terminal, in any encoding."""
    print(json.dumps(value, indent=2, default=str))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, status_column: int = -1) -> None:
    """Print rows of printable text; the cells of `status_column` are coloured (default: none).

    Without a terminal each column is as wide as its widest cell.
    """
    if sys.stdout.isatty():
        _print_rich_table(headings, rows, status_column)
        return
    lines = [list(headings), *map(list, rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(headings))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _print_rich_table(headings: Sequence[str], rows: Iterable[Sequence[str]], status_column: int) -> None:
    """Print a table with frames and colours; long cells are folded."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    # On a terminal the table is folded to its width; nothing is cut off.
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        cells = [Text(cell, style_of(cell) if at == status_column else "") for at, cell in enumerate(row)]
        table.add_row(*cells)
    _console().print(table, soft_wrap=False)


@contextmanager
def progress_bar(title: str, *, unit: Literal["bytes", "rows"] = "bytes") -> Iterator[Progress]:
    """Show a progress bar on stderr while the block runs, when stderr is a terminal; yields what moves it."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich import progress

    count = progress.DownloadColumn() if unit == "bytes" else progress.MofNCompleteColumn()
    columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), count, progress.TimeRemainingColumn())
    with progress.Progress(*columns, console=_console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _console(*, stderr: bool = False) -> "Console":
    """Return a console of the stream as it is now. Honours NO_COLOR; text is never read as markup."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=True)
