"""Printing: tables, JSON and remarks. Colour and frames on a terminal, plain columns elsewhere.

A progress bar over rows.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from otel_agent_telemetry.cli.terminal_text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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


def console(*, stderr: bool = False) -> "Console":
    """A console of the stream as it is now. Honours NO_COLOR; text is never read as markup."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=True)


def style_of(word: str) -> str:
    """The colour of a status or a level."""
    return _STYLES.get(word, "")


def say(text: str = "", style: str = "") -> None:
    """One line on stdout; `text` is printable already."""
    if style and sys.stdout.isatty():
        console().print(text, style=style)
    else:
        print(text)


def remark(text: str) -> None:
    """One line on stderr, where it does not disturb what is piped on."""
    print(printable(text), file=sys.stderr)


def print_json(value: Any) -> None:
    """The value as JSON in ASCII: safe on any terminal, in any encoding."""
    print(json.dumps(value, indent=2, default=str))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, status_column: int = -1) -> None:
    """Rows of printable text. Columns are as wide as their widest cell when it is no terminal."""
    if sys.stdout.isatty():
        _print_rich_table(headings, rows, status_column)
        return
    lines = [list(headings), *map(list, rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(headings))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _print_rich_table(headings: Sequence[str], rows: Iterable[Sequence[str]], status_column: int) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        cells = [Text(cell, style_of(cell) if at == status_column else "") for at, cell in enumerate(row)]
        table.add_row(*cells)
    console().print(table, soft_wrap=False)


@contextmanager
def progress(title: str) -> "Iterator[Callable[[int, int], None]]":
    """A bar over bytes on stderr while the block runs, when stderr is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def rows_progress(title: str) -> "Iterator[Callable[[int, int | None], None]]":
    """A bar on stderr while the block runs, when stderr is a terminal.

    It is called with the rows done and with all rows, None when that is not known.
    """
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
