"""Other users of the host: running code as one of them, and what they may put in the place of a file of ours."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE_S = 60
USERS = (65534, 54321) if os.name != "nt" and os.geteuid() == 0 else ()
"""User ids without rights; empty unless this user may become them."""


@contextmanager
def shared_folder(mode: int = 0o1777) -> Iterator[Path]:
    """A fresh folder that every user may reach and write, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="telemetry-shared-"))
    folder.chmod(mode)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def as_user(uid: int, call: Callable[[], object]) -> object:
    """The JSON-able result of a call in a forked child of another user; None where that is this user.

    A call that does not return within a minute is ended, and fails the test.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(PATIENCE_S)
            if uid != os.geteuid():
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
            result = json.dumps(call())
        except BaseException as failure:  # a forked child must not go on with the test run
            result = json.dumps({"failure": repr(failure)})
        os.write(write, result.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as results:
        text = results.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"the call did not return: wait status {status}"
    return json.loads(text)


def _link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def _pipe(path: Path, _victim: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path, _victim: Path) -> None:
    path.mkdir()


def _device(path: Path, _victim: Path) -> None:
    os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 7))


def _can_make_devices() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        try:
            _device(Path(folder, "full"), Path())
        except PermissionError:  # an ordinary user, or root in a container without the right
            return False
    return True


def _foreign(path: Path, _victim: Path) -> None:
    path.touch()
    path.chmod(0o666)
    os.chown(path, USERS[1], USERS[1])


def _second_name(path: Path, victim: Path) -> None:
    os.link(victim, path)


PLANTS = {
    "a link to a file": _link,
    "a pipe": _pipe,
    "a folder": _folder,
    "a second name of a file": _second_name,
    **({"a file of another user": _foreign} if USERS else {}),
    **({"a device": _device} if _can_make_devices() else {}),
}
"""What an attacker may put at a path: name → function of that path and a file that must stay as it is. Those that
this user can make."""
