"""Printing: lines, tables, JSON and progress bars, and text that is safe on a terminal.

Colours and frames appear on a terminal, plain columns in a pipe or a file. Results go to
stdout, notes and errors to stderr.

Ids, names and payloads can come from anyone. Control characters would move the cursor, change
colours or the clipboard; characters that change the writing direction would make one id look
like another. Both are printed as escapes.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal

from otel_agent_telemetry.clock import parse_iso

if TYPE_CHECKING:
    from rich.console import Console

# C0, DEL and C1 controls, the marks and embeddings that change the writing direction, zero-width characters,
# line and paragraph separators, the byte order mark, annotations and tags. Lone surrogates are in it because
# stdout cannot encode them.
_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_SHORT_ESCAPES: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(value: Any) -> str:
    r"""Return the value's text on one line, with every invisible character escaped (`\x1b`)."""
    return _UNSAFE.sub(_escape, value if isinstance(value, str) else str(value))


def printable_lines(value: Any) -> list[str]:
    """Return the printable lines of a text of several lines, such as a stack trace; at least one."""
    return [printable(line.replace("\t", "    ")) for line in str(value).splitlines()] or [""]


def cells_of(text: str) -> int:
    """Return how many cells of a terminal a printable text takes: two for a wide character, none for a mark."""
    return len(text) if text.isascii() else sum(map(_cells_of_character, text))


@lru_cache(maxsize=4096)
def _cells_of_character(character: str) -> int:
    """Return 0, 1 or 2."""
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def shortened(text: str, width: int) -> str:
    """Return the text, cut to `width` cells of a terminal with an ellipsis where it is longer."""
    if cells_of(text) <= width:
        return text
    kept, used = [], 1
    for character in text:
        used += _cells_of_character(character)
        if used > width:
            break
        kept.append(character)
    return "".join(kept) + "…"


def fill(text: str, *, width: int, first: str) -> list[str]:
    """Return the lines of a printable text after `first`, at most `width` characters, the further ones indented."""
    # Words longer than a line, such as paths, stay whole: what is copied from a terminal must be usable.
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=" " * cells_of(first),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [first.rstrip()]


def _escape(found: re.Match[str]) -> str:
    """Return the escape of one character, as Python would write it."""
    character = found[0]
    code = ord(character)
    return _SHORT_ESCAPES.get(character) or (f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}")  # noqa: PLR2004


def format_time(iso: str | None) -> str:
    """Return `2026-01-31 12:00:00` of an ISO 8601 time in UTC; "-" for None."""
    return (iso or "-")[:19].replace("T", " ")


def local_time(iso: str, *, utc: bool) -> datetime | None:
    """Return an ISO 8601 time in this machine's zone, or in UTC; None for a text that is no time."""
    with suppress(ValueError, OverflowError, OSError):
        moment = datetime.fromtimestamp(parse_iso(iso) / 1e9, UTC)
        return moment if utc else moment.astimezone()
    return None


def format_moment(iso: str, *, utc: bool) -> str:
    """Return `2026-01-31 13:00:00 +01:00` of an ISO 8601 time: here, or `… UTC`; a text that is no time as it is."""
    # Stored by anyone: a text that is no time is shown as it is, and never breaks a list.
    moment = local_time(iso, utc=utc)
    if moment is None:
        return printable(iso) or "-"
    return f"{moment:%Y-%m-%d %H:%M:%S} {'UTC' if utc else moment.isoformat()[-6:]}"


def format_start(text: str, *, is_wide: bool, utc: bool, now: datetime) -> str:
    """Return `13:00` of today, `31 Jan` of an earlier day, both where there is room; what is no time as it is."""
    moment = local_time(text, utc=utc)
    if moment is None:
        return printable(text)
    if is_wide:
        return f"{moment:%Y-%m-%d %H:%M:%S}"
    if moment.date() == now.astimezone(moment.tzinfo).date():
        return f"{moment:%H:%M}"
    return f"{moment:%d %b}" if moment.year == now.year else f"{moment:%Y-%m}"


def format_clock(iso: str, *, utc: bool) -> str:
    """Return `13:00:00.123` of an ISO 8601 time, here or in UTC; a text that is no time as it is."""
    moment = local_time(iso, utc=utc)
    return printable(iso) if moment is None else f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}"


def format_count(number: int) -> str:
    """Return a number in at most six characters: `123`, `1,234`, `12.3k`, `4.5M`, `6.7G`."""
    if number < 10_000:  # noqa: PLR2004 - four digits can be read as they are
        return f"{number:,}"
    amount = float(number)
    for unit in ("k", "M", "G"):
        amount /= 1000
        if amount < 999.95:  # noqa: PLR2004 - what would be rounded to 1000.0
            return f"{amount:.1f}{unit}"
    return f"{amount:.3g}G"


def format_cost(dollars: float) -> str:
    """Return US dollars with two digits that count: `$0.0008`, `$0.81`, `$12.40`, `$1,234`."""
    # Cents of thousands are noise, and a thousandth of a cent is what a short call costs.
    if dollars >= 1000:  # noqa: PLR2004
        return f"${dollars:,.0f}"
    if dollars >= 0.095 or dollars <= 0:  # noqa: PLR2004
        return f"${dollars:.2f}"
    return f"${dollars:.{1 - math.floor(math.log10(dollars))}f}"


def format_duration(milliseconds: int) -> str:
    """Return a duration as `350 ms`, `12.3 s`, `5m 07s`, `3h 20m` or `2d 03h`."""
    if milliseconds < 1000:  # noqa: PLR2004
        return f"{milliseconds} ms"
    seconds = milliseconds // 1000
    if seconds < 60:  # noqa: PLR2004
        return f"{milliseconds / 1000:.1f} s"
    for limit, divisor, big_unit, small_unit in ((3600, 60, "m", "s"), (86_400, 3600, "h", "m")):
        if seconds < limit:
            big, rest = divmod(seconds, divisor)
            return f"{big}{big_unit} {rest // (1 if small_unit == 's' else 60):02d}{small_unit}"
    days, rest = divmod(seconds, 86_400)
    return f"{days}d {rest // 3600:02d}h"


def format_size(number: float) -> str:
    """Return a number of bytes as `512 B`, `3.4 KiB` or `1.2 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:  # noqa: PLR2004
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


Progress = Callable[[int, int | None], None]
"""Called with what is done and with all there is; None when that is not known."""

_STYLES = {
    "success": "green",
    "ok": "green",
    "running": "cyan",
    "partial": "yellow",
    "pending": "yellow",
    "warn": "yellow",
    "cancelled": "yellow",
    "failed": "red",
    "failure": "red",
    "timeout": "red",
    "error": "red",
    "open": "red",
    "resolved": "green",
}


def style_of(word: str) -> str:
    """Return the Rich style of a status or a level, "" for any other word."""
    return _STYLES.get(word, "")


_ASCII: Final = str.maketrans({"│": "|", "├": "|", "└": "`", "─": "-", "…": "~", "·": "|"})
"""What is ours on a line → what a terminal without it shows, of the same width: a line that fits stays one."""


def _as_the_terminal_can(text: str) -> str:
    """Return the text with branches in ASCII where the encoding of stdout has none."""
    try:
        "├".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return text.translate(_ASCII)
    return text


def width_of_stdout() -> int | None:
    """Return how many characters a line of the terminal has; None for a pipe or a file."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def print_line(text: str = "", style: str = "") -> None:
    """Print one line on stdout; `text` must be printable already (`printable`)."""
    text = _as_the_terminal_can(text)
    if style and sys.stdout.isatty():
        _console().print(text, style=style)
    else:
        print(text)


def print_stderr(text: str) -> None:
    """Print a note or an error as one line on stderr, where it does not mix with piped results."""
    print(printable(text), file=sys.stderr)


def to_json_text(value: Any, *, indent: int | None = None) -> str:
    """Return JSON with the characters as they are: it is escaped for the terminal afterwards."""
    return json.dumps(value, indent=indent, ensure_ascii=False, default=str)


def print_json(value: Any) -> None:
    """Print the value as JSON in ASCII: safe on any terminal, in any encoding."""
    print(json.dumps(value, indent=2, default=str))


def print_json_array(items: Iterable[Any]) -> None:
    """Print an array item by item: a hundred thousand runs are neither held as text nor encoded slowly."""
    import orjson

    separator = "[\n"
    for item in items:
        text = orjson.dumps(item, default=str, option=orjson.OPT_INDENT_2).decode()
        if not text.isascii():  # ASCII as everywhere, which orjson cannot write
            text = json.dumps(orjson.loads(text), indent=2)
        print(separator, text, sep="", end="")
        separator = ",\n"
    print("\n]" if separator != "[\n" else "[]")


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


def _console(*, stderr: bool = False) -> Console:
    """Return a console of the stream as it is now. Honours NO_COLOR; text is never read as markup."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=True)
