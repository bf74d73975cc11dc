"""Ask git about a repository: its folders, its commits and their messages, who wrote a line.

Git is run with the repository's folder alone: the variables that git gives its hooks (`GIT_DIR`,
`GIT_INDEX_FILE` …) belong to another command, and name another repository where a hook starts
something. Whatever a user or a repository gives is an argument behind `--end-of-options`, never a
part of a command line. Answers are data: authors and messages can come from anyone.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otel_agent_telemetry.config import process_environment
from otel_agent_telemetry.errors import ConfigurationError
from otel_agent_telemetry.patterns import lazy
from otel_agent_telemetry.run_id import check_custom_run_id

DEFAULT_TRAILER: Final = "Agent-Run"
_KEPT: Final = ("GIT_CONFIG_", "GIT_EXEC_PATH", "GIT_CEILING_DIRECTORIES", "GIT_SSH")
"""Beginnings of git's variables for how it works, not where."""
_FORMAT: Final = "%H%x00%aN <%aE>%x00%cI%x00%s%x00%B%x00%x01"
_PARTS: Final = 5
_TIMEOUT_S: Final = 120
_MAX_SEARCHED: Final = 20_000
_BLAMED: Final = lazy(r"([0-9a-f]{40}|[0-9a-f]{64}) \d+ (\d+)(?: \d+)?")


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit as git describes it; `committed_at` is ISO 8601 with a zone."""

    commit_hash: str
    author: str
    committed_at: str
    subject: str
    message: str

    def trailer_runs(self, trailer: str) -> list[str]:
        """Return the ids of the runs that the message names, each once.

        Wherever the line stands: a squashed commit has the messages of others within its own, indented.
        """
        prefix = f"{trailer}: ".lower()
        lines = (line.strip() for line in self.message.splitlines())
        ids = (line[len(prefix) :].strip() for line in lines if line.lower().startswith(prefix))
        return list(dict.fromkeys(run_id for run_id in ids if check_custom_run_id(run_id) is None))


@dataclass(frozen=True, slots=True)
class BlamedLine:
    """A line of a file: its number, its text, and the commit that it came with."""

    number: int
    commit_hash: str
    author: str
    text: str


class Repository:
    """A repository of this machine, by a folder in its work tree or by its git directory.

    Every method runs git and blocks for it, 120 s at most; raises ConfigurationError with git's own
    words, where it is missing, refuses (`safe.directory`), or does not know a name.
    """

    def __init__(self, *, folder: Path | None = None, git_dir: Path | None = None) -> None:
        place = ["--git-dir", str(git_dir)] if git_dir is not None else ["-C", str(folder or Path.cwd())]
        self._command = ["git", "--no-pager", *place]
        self._environment = clean_environment(process_environment())

    def ask(self, *arguments: str, text: str | None = None) -> str:
        """Return what a git command prints; `text`: its standard input."""
        try:
            done = subprocess.run(  # noqa: S603 - no shell; what is not ours stands behind --end-of-options
                [*self._command, *arguments],
                input=(text or "").encode(),
                capture_output=True,
                env=self._environment,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except FileNotFoundError:
            raise ConfigurationError("git: it is not installed, or not in PATH") from None
        except subprocess.TimeoutExpired:
            raise ConfigurationError(f"git {arguments[0]}: no answer within {_TIMEOUT_S} s") from None
        if done.returncode:
            output = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise ConfigurationError(f"git {arguments[0]}: {output[0] if output else f'status {done.returncode}'}")
        return done.stdout.decode("utf-8", "replace")

    def setting(self, name: str, *scope: str) -> str:
        """Return a value of git's configuration, "" where it is not set; `scope`: `--global`, `--local`."""
        try:
            return self.ask("config", *scope, "--type=path", "--get", name).removesuffix("\n")
        except ConfigurationError:
            return ""

    def path_of(self, question: str, *arguments: str) -> Path:
        """Return the absolute path that `git rev-parse` answers."""
        return Path(self.ask("rev-parse", "--path-format=absolute", question, *arguments).removesuffix("\n"))

    @property
    def common_dir(self) -> Path:
        """Return the git directory that all worktrees share."""
        return self.path_of("--git-common-dir")

    def full_hash(self, name: str) -> str:
        """Return the hash of the commit that a name stands for."""
        return self.ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}").strip()

    def commits(self, revisions: Sequence[str], *, limit: int | None = None, walk: bool = True) -> list[Commit]:
        """Return the commits of revisions (`main..topic`, `HEAD~3`), newest first; without `walk` just those named."""
        bounds = [] if limit is None else [f"--max-count={limit}"]
        how = [] if walk else ["--no-walk=unsorted"]
        shape = ("--no-show-signature", "--no-notes", "--no-color", "--no-patch", f"--format={_FORMAT}")
        output = self.ask("log", *shape, *bounds, *how, "--end-of-options", *revisions, "--")
        parts = (record.lstrip("\n").split("\0") for record in output.split("\0\x01"))
        return [Commit(*part[:_PARTS]) for part in parts if len(part) >= _PARTS]

    def hashes(self, revisions: Sequence[str], *, limit: int) -> list[str]:
        """Return the hashes of the commits of revisions, newest first."""
        return self.ask("rev-list", f"--max-count={limit}", "--end-of-options", *revisions, "--").split()

    def commits_of_change(self, change: str) -> list[str]:
        """Return the hashes of the commits of a change: Gerrit's `Change-Id` in the message, jj's in the header.

        Of all branches, the newest 20,000 commits are looked at.
        """
        output = self.ask("rev-list", "--all", "--header", f"--max-count={_MAX_SEARCHED}")
        lines = (f"\nchange-id {change}\n", f"\n    Change-Id: {change}\n")
        return [raw.split("\n", 1)[0] for raw in output.split("\0") if any(line in f"{raw}\n" for line in lines)]

    def blame(self, file: str, revision: str | None) -> list[BlamedLine]:
        """Return the lines of a file and the commits that they came with."""
        revisions = [] if revision is None else [self.full_hash(revision)]
        output = self.ask("blame", "--line-porcelain", *revisions, "--", file)
        return list(_blamed(output.split("\n")))


def _blamed(lines: Iterable[str]) -> Iterable[BlamedLine]:
    """Yield the lines of `git blame --line-porcelain`: a header each, which a line with a tab ends."""
    # A line of the file can look like a header; its own begins with a tab, which no header does.
    commit, number, author = "", 0, ""
    for line in lines:
        if line.startswith("\t"):
            yield BlamedLine(number, commit, author, line[1:])
        elif line.startswith("author "):
            author = line.removeprefix("author ")
        elif found := _BLAMED.fullmatch(line):
            commit, number = found[1], int(found[2])


def trailer_to_read(setting: str) -> str:
    """Return the name of the trailer that names runs; the usual one where `TELEMETRY_COMMIT_TRAILER` is off."""
    # Others may have made the commit, who have not turned it off.
    return DEFAULT_TRAILER if setting == "off" else setting


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a git command of ours: without what names another repository, in English."""
    kept = {name: value for name, value in environ.items() if not name.startswith("GIT_") or name.startswith(_KEPT)}
    # No prompt for a password and no lock on the index, whatever the command is.
    return {**kept, "LC_ALL": "C.UTF-8", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "PWD": os.getcwd()}  # noqa: PTH109
