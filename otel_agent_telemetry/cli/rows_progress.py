"""A progress bar over rows."""

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from otel_agent_telemetry.cli.output import console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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
