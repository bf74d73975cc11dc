"""A real terminal for tests: a pseudo terminal with a program of its own session on it, and a person at the keys."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time

from on_disk import PATIENCE_S, ROOT, child_environment

IN_A_SESSION = (
    "import fcntl, os, signal, sys, termios\n"
    "[signal.signal(number, signal.SIG_DFL) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)]\n"
    "os.setsid()\n"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "os.execvp(sys.argv[1], sys.argv[1:])"
)
"""Starts a program with its standard input as the controlling terminal, and with the signals of a login.

Whoever runs the tests in the background ignores some of them.
"""


class Terminal:
    """A program on a terminal; `screen` is what it has shown since the last text that was waited for."""

    def __init__(self, *command, env=None, rows=24, columns=80):
        self._ours, its = pty.openpty()
        self.resize(rows, columns)
        self.screen = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", IN_A_SESSION, *command],
            stdin=its, stdout=its, stderr=its, cwd=ROOT, env={**child_environment(env), "TERM": "xterm", "PS1": "ready> "},
        )  # fmt: skip
        os.close(its)

    def __enter__(self):
        return self

    def __exit__(self, *_raised):
        os.close(self._ours)  # a hangup, which ends what still runs there
        self.process.wait(PATIENCE_S)

    def resize(self, rows, columns):
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self._ours, text.encode())

    def wait_for(self, text):
        """Read until the text is shown, and forget what is shown up to there."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.screen:
            assert time.monotonic() < deadline, f"{text!r} is not in {self.screen!r}"
            if select.select([self._ours], [], [], 1.0)[0]:
                self.screen += os.read(self._ours, 65536).decode("utf-8", "replace")
        self.screen = self.screen.partition(text)[2]
