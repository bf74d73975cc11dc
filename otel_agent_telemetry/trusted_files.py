"""Open files in folders that other users may write: no links, no waiting, regular files only.

Everything of this package that lies below the base directory is opened here, to read and to
write. Another user who may write there could put a symbolic link to a file of ours, a named
pipe that nobody reads, or a file of their own in the place of one that we open. So

- the last part of a path is never followed as a link; a folder's link is, when it is ours or
  root's and stands in a private folder;
- opening never waits, and only a regular file is returned;
- in a shared folder the file must belong to this user, to root or to the folder's owner, and
  may be written only under its single name.

A folder is *private* when it belongs to this user or to root and neither its group nor others
may write it, else *shared*. What root makes in a folder that one other user may write is given
to that user, who could not write it else. On Windows, which has no modes, files are opened as they are.

What cannot be trusted is an UntrustedFileError, an OSError like a file that may not be opened.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

PRIVATE_DIR: Final = 0o700
PRIVATE_FILE: Final = 0o600
_HAS_MODES: Final = os.name != "nt"
_NOFOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
_EVERY_FILE: Final = (
    _NOFOLLOW
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
# O_PATH needs no right to list the folder, only to enter it.
_FOLDER: Final = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_PATH", os.O_RDONLY)
_IS_FOLDER: Final = "a folder stands where a file should be"
_IS_LINK: Final = "a symbolic link stands where a file should be"
_FOREIGN_LINK: Final = "a symbolic link that another user may have put there"
_IS_NO_FILE: Final = "not a regular file"
_REASONS: Final = {errno.ELOOP: _IS_LINK, errno.ENXIO: _IS_NO_FILE, errno.ENODEV: _IS_NO_FILE}
"""What `open` reports of what it does not open: a link, a pipe that nobody reads or a socket, a device."""
_WRITING: Final = os.O_WRONLY | os.O_RDWR
_BUFFER_BYTES: Final = 1 << 20


class UntrustedFileError(OSError):
    """What stands at a path is not a file that this user may trust: a link, a pipe, another user's file."""


def open_file(path: Path, flags: int, mode: int = PRIVATE_FILE) -> int:
    """Return the descriptor of a regular file, opened with `flags` of `os.open`. Never waits.

    Raises UntrustedFileError for anything else than a regular file that can be trusted, OSError.
    """
    if not _HAS_MODES:
        return os.open(path, flags | _EVERY_FILE, mode)
    folder = _open_folder(path.parent)
    try:
        fd = _open_in(folder, path, flags, mode)
        try:
            # Of the open file and not of the path, which may lead elsewhere a moment later.
            _check(os.fstat(fd), os.fstat(folder), path, writes=bool(flags & _WRITING))
        except OSError:
            os.close(fd)
            raise
        return fd
    finally:
        os.close(folder)


def open_to_read(path: Path, *, buffering: int = _BUFFER_BYTES) -> BinaryIO:
    """Return a stream of a regular file's bytes; `buffering` as of `open`, default 1 MiB. Raises OSError."""
    return os.fdopen(open_file(path, os.O_RDONLY), "rb", buffering)


def read_bytes(path: Path) -> bytes:
    """Return the content of a regular file. Raises OSError."""
    with open_to_read(path, buffering=0) as stream:
        return stream.read()


def replace_content(path: Path, content: bytes) -> None:
    """Replace a file as a whole: a reader finds the old content or the new one. Raises OSError.

    Written as `{stem}.new` first; what a killed process, or another user, left under that name is removed.
    """
    scratch = path.with_suffix(".new")
    # Removed, not opened: what another user has put there may be a link to a file of ours.
    scratch.unlink(missing_ok=True)
    fd = open_file(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)
    scratch.replace(path)


def make_private_dir(folder: Path) -> None:
    """Make a folder and its parents, each 0700 where it is new. Raises OSError."""
    if folder.is_dir():
        return
    make_private_dir(folder.parent)
    # Another process may make it between the check and here; what stands there is looked at below.
    with contextlib.suppress(FileExistsError):
        _make_dir(folder)
    # It may be gone again: a folder of set-aside entries is renamed by whoever takes them.
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISDIR(folder.stat().st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "a file stands where a folder should be", str(folder))


def trusted_names(folder: Path) -> list[str]:
    """Return the names of the files in a folder that `open_file` would open to read. Raises OSError.

    The others are left out, so that a named pipe among them holds no reader up: see `untrusted_entries`.
    """
    return [name for name, reason in _entries(folder) if not reason]


def untrusted_entries(folder: Path) -> list[tuple[str, str]]:
    """Return each name in a folder that is neither a folder nor a trusted file, and why. Raises OSError."""
    return [(name, reason) for name, reason in _entries(folder) if reason and reason != _IS_FOLDER]


def _entries(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield each name in a folder, and why it cannot be opened; "" for a trusted file."""
    status = folder.stat()
    shared = is_shared(status)
    with os.scandir(folder) as entries:
        for entry in entries:
            # Removed meanwhile: deliveries and retention remove files at any time.
            with contextlib.suppress(FileNotFoundError):
                # The kind is known from the listing; a shared folder's files cost a system call each.
                plain = entry.is_file(follow_symlinks=False) and not shared
                yield entry.name, "" if plain else _distrust(entry.stat(follow_symlinks=False), status)


def check_file(path: Path) -> None:
    """Raise UntrustedFileError unless a file that other code opens by its path is trusted, or missing.

    For SQLite, which opens its files itself. Nothing is opened here: closing a second
    descriptor would drop the locks that SQLite holds on the file.
    """
    if not _HAS_MODES:
        return
    with contextlib.suppress(FileNotFoundError), _opened_folder(path.parent) as folder:
        _check(os.stat(path.name, dir_fd=folder, follow_symlinks=False), os.fstat(folder), path, writes=True)


def followed(path: Path) -> Path:
    """Return where the links of a path lead; the path itself when a link at its end stands in a shared folder.

    Also when it cannot be resolved. That link is refused then where the file is opened.
    """
    try:
        return path.resolve() if not path.is_symlink() or _may_follow(path) else path
    except (OSError, RuntimeError):  # a loop of links
        return path


def entries_below(base: Path, inside: str) -> list[tuple[str, int, str]]:
    """Return name, size, and why it cannot be trusted ("" for a trusted file), of each entry of a folder below `base`.

    No part of `inside` (`buffer/rejected`) is followed as a link; none where the folder is missing. Raises OSError.
    """
    found = []
    with contextlib.suppress(FileNotFoundError), _opened_below(base, inside) as folder:
        status = os.fstat(folder)
        with os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    about = entry.stat(follow_symlinks=False)
                    found.append((entry.name, about.st_size, _distrust(about, status)))
    return found


def remove_below(base: Path, inside: str, names: Iterable[str]) -> None:
    """Remove trusted files of a folder below `base`, found as `entries_below` finds them. Raises OSError.

    What has taken the place of one meanwhile, a link or another user's file, stays.
    """
    with _opened_below(base, inside) as folder:
        status = os.fstat(folder)
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                if not _distrust(os.stat(name, dir_fd=folder, follow_symlinks=False), status):
                    os.unlink(name, dir_fd=folder)


@contextlib.contextmanager
def _opened_below(base: Path, inside: str) -> Iterator[int]:
    """Yield a descriptor of a folder below another one, and close it; a link on the way is an OSError."""
    # Not `_FOLDER`: what is opened with O_PATH cannot be listed.
    flags = os.O_RDONLY | os.O_DIRECTORY | _NOFOLLOW | os.O_CLOEXEC
    folder = _open_folder(base)
    try:
        for part in Path(inside).parts:
            try:
                below = os.open(part, flags, dir_fd=folder)
            except OSError as problem:
                if problem.errno in (errno.ELOOP, errno.ENOTDIR):
                    raise UntrustedFileError(problem.errno, "not a folder of its own", str(base / inside)) from None
                raise
            os.close(folder)
            folder = below
        yield folder
    finally:
        os.close(folder)


def is_shared(folder: os.stat_result) -> bool:
    """Return whether other users than this one and root may put files into a folder, given its `os.stat`."""
    return _HAS_MODES and (may_be_written_by_others(folder) or folder.st_uid not in (0, os.geteuid()))


def may_be_written_by_others(folder: os.stat_result) -> bool:
    """Return whether the group of a folder, or everybody, may put files into it."""
    return bool(folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


@contextlib.contextmanager
def _opened_folder(path: Path) -> Iterator[int]:
    """Yield what `_open_folder` returns, and close it."""
    fd = _open_folder(path)
    try:
        yield fd
    finally:
        os.close(fd)


def _open_folder(path: Path) -> int:
    """Return a descriptor of a folder, through which its files are reached whatever the path leads to later."""
    try:
        return os.open(path, _FOLDER | _NOFOLLOW)
    except OSError as problem:
        if problem.errno not in (errno.ELOOP, errno.ENOTDIR) or not path.is_symlink():
            raise
        if not _may_follow(path):
            raise UntrustedFileError(errno.ELOOP, _FOREIGN_LINK, str(path)) from None
        return os.open(path, _FOLDER)


def _may_follow(link: Path) -> bool:
    """Return whether a symbolic link is ours or root's, and nobody else could have put it there. Raises OSError."""
    return not _HAS_MODES or (link.lstat().st_uid in (0, os.geteuid()) and not is_shared(link.parent.stat()))


def _open_in(folder: int, path: Path, flags: int, mode: int) -> int:
    """Open a file of a folder; one that root makes there is given to the folder's owner. Raises OSError."""
    flags |= _EVERY_FILE
    try:
        owner = _other_owner(folder) if flags & os.O_CREAT else None
        if owner is not None:
            with contextlib.suppress(FileExistsError):
                fd = os.open(path.name, flags | os.O_EXCL, mode, dir_fd=folder)
                _give(fd, owner)
                return fd
        return os.open(path.name, flags, mode, dir_fd=folder)
    except OSError as problem:
        reason = _REASONS.get(problem.errno or 0)
        if reason is not None:
            raise UntrustedFileError(problem.errno, reason, str(path)) from None
        raise OSError(problem.errno, problem.strerror, str(path)) from None


def _make_dir(folder: Path) -> None:
    """Make one folder (0700). Raises OSError."""
    if not _HAS_MODES:
        folder.mkdir(PRIVATE_DIR)
        return
    with _opened_folder(folder.parent) as parent:
        os.mkdir(folder.name, PRIVATE_DIR, dir_fd=parent)
        owner = _other_owner(parent)
        if owner is not None:
            fd = os.open(folder.name, os.O_RDONLY | os.O_DIRECTORY | _NOFOLLOW, dir_fd=parent)
            try:
                _give(fd, owner)
            finally:
                os.close(fd)


def _other_owner(folder: int) -> tuple[int, int] | None:
    """Return user and group of a folder for root, when the folder is one user's; else None."""
    # Only root can give a file away; a service that root started once must not lock its user out.
    if os.geteuid() != 0:
        return None
    status = os.fstat(folder)
    return None if status.st_uid == 0 or may_be_written_by_others(status) else (status.st_uid, status.st_gid)


def _give(fd: int, owner: tuple[int, int]) -> None:
    """Give a file to its folder's owner, where the system allows it."""
    with contextlib.suppress(PermissionError):
        os.fchown(fd, *owner)


def _check(file: os.stat_result, folder: os.stat_result, path: Path, *, writes: bool) -> None:
    """Raise UntrustedFileError unless a file can be trusted; IsADirectoryError for a folder."""
    reason = _distrust(file, folder)
    if reason == _IS_FOLDER:
        raise IsADirectoryError(errno.EISDIR, reason, str(path))
    # Another user's hard link would make us write to whatever file of ours it names.
    if not reason and writes and file.st_nlink > 1 and is_shared(folder):
        reason = "a file with a second name, in a shared folder"
    if reason:
        raise UntrustedFileError(errno.EPERM, reason, str(path))


def _distrust(file: os.stat_result, folder: os.stat_result) -> str:
    """Return why a file cannot be trusted to be read; "" when it can."""
    if stat.S_ISDIR(file.st_mode):
        return _IS_FOLDER
    if stat.S_ISLNK(file.st_mode):
        return _IS_LINK
    if not stat.S_ISREG(file.st_mode):
        return _IS_NO_FILE
    if is_shared(folder) and file.st_uid not in (0, os.geteuid(), folder.st_uid):
        return f"the file of another user (uid {file.st_uid}), in a shared folder"
    return ""
