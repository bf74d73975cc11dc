"""What the hooks know of a repository's commits: the file `agent-telemetry-commits` in its git directory.

It makes rewritten commits keep their runs without a database, and answers `git log` where the
store knows nothing. All worktrees of a repository share it. Only added to, a line at a time:

    commit HASH RUN_ID      the commit belongs to the run
    rewrite OLD NEW         git made NEW of OLD: amend, rebase (written by `hook.sh`)
    why HASH TEXT           how the run was found, or why none was
    later HASH SIGNS        what an agent named that had not sent its run yet (`find_run.Circumstances.signs`)

A line that breaks this is skipped. The file is the user's own, as everything in a git directory is.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from otel_agent_telemetry.patterns import lazy
from otel_agent_telemetry.run_id import check_custom_run_id

FILE_NAME: Final = "agent-telemetry-commits"
_HASH: Final = lazy(r"[0-9a-f]{40}|[0-9a-f]{64}")
_MAX_BYTES: Final = 64 << 20
_MAX_WHY: Final = 500


@dataclass(frozen=True, slots=True)
class LocalIndex:
    """The lines of the file, by commit."""

    runs: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Hash → ids of its runs, each once, in the order of the file."""
    rewritten: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Old hash → the commits that git made of it."""
    why: dict[str, str] = field(default_factory=dict)
    """Hash → the last reason."""
    later: dict[str, str] = field(default_factory=dict)
    """Hash → the signs of a commit whose run was not there yet."""

    def successors(self, commit: str) -> list[str]:
        """Return all commits that were made of a commit, directly or by way of others."""
        found: dict[str, None] = {}
        waiting = [commit]
        while waiting:
            for following in self.rewritten.get(waiting.pop(), ()):
                if following not in found and following != commit:  # a circle: amended to and fro
                    found[following] = None
                    waiting.append(following)
        return list(found)


def read_index(common_dir: Path) -> LocalIndex:
    """Return what the file holds; empty without one. Blocks for one read. Never raises."""
    index = LocalIndex()
    try:
        with (common_dir / FILE_NAME).open("rb") as stream:
            text = stream.read(_MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return index
    for line in text.split("\n"):
        kind, _, rest = line.partition(" ")
        commit, _, value = rest.partition(" ")
        if not _HASH.fullmatch(commit):
            continue
        if kind == "commit" and check_custom_run_id(value) is None and value not in index.runs[commit]:
            index.runs[commit].append(value)
        elif kind == "rewrite" and _HASH.fullmatch(value) and value not in index.rewritten[commit]:
            index.rewritten[commit].append(value)
        elif kind == "why":
            index.why[commit] = value
        elif kind == "later":
            index.later[commit] = value
    return index


def add_lines(common_dir: Path, lines: Iterable[tuple[str, str, str]]) -> None:
    """Add lines of `(kind, commit, value)`. Never raises: a full disk costs no more than these lines."""
    texts = (" ".join((kind, commit, _one_line(value))) for kind, commit, value in lines)
    content = "".join(f"{text}\n" for text in texts).encode("utf-8", "replace")
    with contextlib.suppress(OSError):
        fd = os.open(
            common_dir / FILE_NAME, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644
        )
        try:
            # One write to a file opened to append: hooks of several commits at a time do not mix their lines.
            os.write(fd, content)
        finally:
            os.close(fd)


def _one_line(text: str) -> str:
    """Return a text that is one line of the file."""
    return " ".join(text.split())[:_MAX_WHY] if "\n" in text or len(text) > _MAX_WHY else text
