"""The remote, the branch and the commit of the git repository that a folder is in.

Read from git's own files, never by running git: a library must not start subprocesses in the
host application. Read are `.git` (a folder, or the file `gitdir: …` of a worktree or a
submodule), `commondir`, `HEAD`, the ref that it names, and the remotes in `config`
(gitrepository-layout(5), git-config(1) "CONFIGURATION FILE"). Not read: objects, includes, the environment,
global configuration, the `reftable` format.

Every read is bounded and only from regular files, so neither a huge file nor a pipe can
block the reader. Nothing here raises: what cannot be read is None.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from otel_agent_telemetry.patterns import lazy
from otel_agent_telemetry.urls import without_credentials

_POINTER: Final = "gitdir:"
_MAX_SMALL_FILE: Final = 4096
_MAX_CONFIG: Final = 1 << 20
_BLOCK: Final = 1 << 20
_MAX_PACKED_REFS: Final = 1 << 20
_MAX_URL: Final = 4096
_OPEN_FLAGS: Final = (
    os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)

_REF: Final = lazy(r"refs/[^\x00-\x20\x7f]+")
_COMMIT: Final = lazy(r"[0-9a-f]{40}|[0-9a-f]{64}")
_BRANCHES: Final = "refs/heads/"
_REFTABLE_HEAD: Final = "refs/heads/.invalid"
_SECTION: Final = lazy(
    r'\s*\[\s*(?P<name>[A-Za-z0-9-]+)(?:\s+"(?P<quoted>(?:[^"\\]|\\.)*)"|\.(?P<dotted>[^\]\s"]+))?\s*\]'
)
_VARIABLE: Final = lazy(r"\s*(?P<key>[A-Za-z][A-Za-z0-9-]*)\s*=\s*(?P<value>.*)", re.DOTALL)
_VALUE_PART: Final = lazy(r'"(?P<quoted>(?:[^"\\]|\\.)*)"?|(?P<escape>\\.)|(?P<comment>[#;])|(?P<plain>[^"\\#;]+)')
_ESCAPES: Final = {"n": "\n", "t": "\t", "b": "\b"}


class GitContext(NamedTuple):
    """A repository's remote and branch."""

    repo: str | None
    """URL of the remote `origin`, else of the first remote, without credentials; None without a remote."""
    branch: str | None
    """The checked-out branch; None when HEAD is detached or cannot be read."""


def read_git_context(start: Path) -> GitContext | None:
    """Return the repository that a folder (or file) is in, or None when it is in none.

    Blocks for a handful of bounded file reads; meant for a background thread. Never raises.
    """
    found = _git_dirs(start)
    if found is None:
        return None
    own, common = found
    ref = _symbolic(_first_line(own / "HEAD"))
    branch = None
    if ref is not None and ref != _REFTABLE_HEAD:
        branch = _shown(ref.removeprefix(_BRANCHES))
    return GitContext(repo=_remote_url(common / "config"), branch=branch)


class HeadCommit:
    """The commit that a working tree stands on, read again and again as the tree moves.

    A ref that is in no file of its own stands in `packed-refs`, of which at most 1 MiB is
    read, and again only when that file has changed. Not safe under threads.

    `start`: a folder or file of the working tree; it may be in no repository.
    """

    def __init__(self, start: Path) -> None:
        self._dirs = _git_dirs(start)
        self._packed: tuple[object, str] = (None, "")
        """What `packed-refs` was when it was read last, and its text."""

    def read(self) -> str | None:
        """Return the commit as 40 or 64 hex digits; None without one. Blocks for two small reads. Never raises."""
        if self._dirs is None:
            return None
        own, common = self._dirs
        head = _first_line(own / "HEAD")
        ref = _symbolic(head)
        if ref is None:
            return _commit(head)
        # In git's own order: a ref's file, when there is one, is newer than its line in `packed-refs`. Refs of a
        # worktree alone (`refs/bisect`, `refs/worktree`) stand in its own folder.
        return _commit(_first_line(own / ref)) or _commit(_first_line(common / ref)) or self._packed_ref(common, ref)

    def _packed_ref(self, common: Path, ref: str) -> str | None:
        """Return the commit of a ref in `packed-refs`; None where it is not there."""
        path = common / "packed-refs"
        try:
            status = path.stat()
        except (OSError, ValueError):
            return None
        # git replaces the file by a rename, so the inode tells two versions of one size and time apart.
        version = (status.st_mtime_ns, status.st_size, status.st_ino)
        if self._packed[0] != version:
            self._packed = (version, _text(path, _MAX_PACKED_REFS))
        found = re.search(rf"^([0-9a-f]{{40,64}}) {re.escape(ref)}$", self._packed[1], re.MULTILINE)
        return found[1] if found else None


def _commit(text: str) -> str | None:
    """Return a commit's hash; None for any other text."""
    return text if _COMMIT.fullmatch(text) else None


def _git_dirs(start: Path) -> tuple[Path, Path] | None:
    """Return the folder with HEAD and the folder that all worktrees share; often the same."""
    try:
        here = Path(os.path.realpath(start))
    except (OSError, ValueError):
        return None
    for folder in (here, *here.parents):
        own = folder / ".git"
        pointer = _first_line(own)
        if pointer.startswith(_POINTER):
            own = folder / pointer.removeprefix(_POINTER).strip()
        if _first_line(own / "HEAD"):
            common = _first_line(own / "commondir")
            return own, own / common if common else own
        if pointer:
            return None  # a broken pointer: git stops here too, a folder further up is another repository
    return None


def _symbolic(content: str) -> str | None:
    """Return the ref that `ref: refs/…` names; None for anything else, and for a name that leaves `refs/`."""
    if not content.startswith("ref:"):
        return None
    ref = content.removeprefix("ref:").strip()
    return ref if _REF.fullmatch(ref) and ".." not in ref else None


def _remote_url(path: Path) -> str | None:
    """Return the URL of `origin`, else of the first remote; None without one."""
    first = None
    for remote, url in _remotes(_text(path, _MAX_CONFIG)):
        if remote == "origin":
            return _public(url)
        first = first or url
    return _public(first) if first else None


def _public(url: str) -> str | None:
    """Return a URL without credentials; None for one that is too long or not printable."""
    shown = _shown(url)
    return without_credentials(shown) if len(shown) <= _MAX_URL and shown.isprintable() else None


def _remotes(config: str) -> Iterator[tuple[str, str]]:
    """Yield `(remote, url)` of every `url` under a `[remote "…"]` section, in order."""
    remote = None
    for line in re.sub(r"\\\r?\n", "", config).split("\n"):
        rest = line
        if section := _SECTION.match(line):
            rest = line[section.end() :]
            remote = _remote_named(section)
        variable = _VARIABLE.fullmatch(rest)
        if remote is not None and variable is not None and variable["key"].lower() == "url":
            yield remote, _value(variable["value"])


def _remote_named(section: re.Match[str]) -> str | None:
    """Return the name in a section `[remote "name"]`; None for another section."""
    if section["name"].lower() != "remote":
        return None
    if section["quoted"] is not None:
        return re.sub(r"\\(.)", r"\1", section["quoted"])
    return section["dotted"]


def _value(raw: str) -> str:
    """Return a variable's value without quotes, escapes, comment and outer blanks."""
    parts: list[str] = []
    for part in _VALUE_PART.finditer(raw):
        if part["comment"]:
            break
        if part["quoted"] is not None:
            parts.append(_unescaped(part["quoted"]))
        else:
            parts.append(part["plain"] or _unescaped(part["escape"]))
    return "".join(parts).strip()


def _unescaped(text: str) -> str:
    """Return a quoted value of a configuration without its escapes."""
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), text)


def _shown(text: str) -> str:
    """Return text that any file can hold: bytes that are not UTF-8 become U+FFFD."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _first_line(path: Path) -> str:
    """Return the first line of a small file, without blanks around it; empty where it cannot be read."""
    return _text(path, _MAX_SMALL_FILE).partition("\n")[0].strip()


def _text(path: Path, limit: int) -> str:
    """Return the beginning of a file as text, `limit` bytes at most."""
    return b"".join(_blocks(path, limit)).decode("utf-8", "surrogateescape")


def _blocks(path: Path, limit: int) -> Iterator[bytes]:
    """Yield a regular file's content up to a limit in bytes; nothing when it cannot be read."""
    try:
        fd = os.open(path, _OPEN_FLAGS)
    except (OSError, ValueError):
        return
    try:
        left = limit if stat.S_ISREG(os.fstat(fd).st_mode) else 0
        while left > 0 and (block := os.read(fd, min(left, _BLOCK))):
            left -= len(block)
            yield block
    except OSError:
        return
    finally:
        os.close(fd)
