"""A command as a child process that has this process's terminal, process group and open descriptors.

The child stays in our process group, as below `env` and `nice`: the terminal is the child's without a pseudo
terminal between, and what the terminal sends (Ctrl-C, Ctrl-Z, a new window size) reaches it from the kernel.
What another process sends to us alone is handed on. POSIX only.

Signals are not handled but waited for, so they are blocked from before the first thread on (`hold_signals`);
the child starts with the mask that we were started with.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
_BY_SIGNAL: Final = 128
_LOOK_EVERY_S: Final = 1.0
_LAST_STREAM: Final = 2
_HANDED_ON: Final = frozenset(
    {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}
    | {signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT}
)
_OF_TERMINAL: Final = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGWINCH})
"""What the kernel sends to the whole foreground group, hence to the child as well."""
_JOB_CONTROL: Final = frozenset({signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})
_HELD: Final = _HANDED_ON | {signal.SIGCHLD}
# Python ignores them from its start on, and a child inherits what is ignored: `yes | head` would not end.
_IGNORED_BY_PYTHON: Final = (signal.SIGPIPE, signal.SIGXFSZ)


class Ended(NamedTuple):
    """How a command ended. `code` is the exit status that a shell would give it; `signal` what killed it, else 0."""

    code: int
    signal: int = 0


class NotStarted(NamedTuple):
    """A command that could not be started: the exit status that a shell would give it, and why."""

    code: int
    reason: str


def hold_signals() -> Iterable[int]:
    """Keep the signals for the child waiting, from now to the end of this process; return the mask of before.

    Called in the main thread before any other is started: a thread without the mask would take them. They stay
    held after the child has ended, so that a Ctrl-C that ended it does not change our own exit status.
    """
    # Where whoever started us ignores SIGCHLD, the kernel would reap the child and keep its exit status.
    signal.signal(signal.SIGCHLD, _nothing if sys.platform == "darwin" else signal.SIG_DFL)
    return signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)


def occupy_closed_streams() -> None:
    """Open the null device for each standard stream that is closed; the child gets it closed, as it was.

    Else the next file that this process opens would have the number of a stream: what is printed would go into it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) <= _LAST_STREAM:
        pass
    os.close(descriptor)


def start(
    command: list[str], environment: Mapping[str, str], *, mask: Iterable[int], outputs: Mapping[int, int]
) -> Child | NotStarted:
    """Start a command and return it, or why it could not be started.

    `mask`: the signals that the child begins with blocked. `outputs`: descriptor of the child → ours that it
    becomes; every other one is inherited as it is, such as the job server of `make`.
    """
    actions = [(os.POSIX_SPAWN_DUP2, ours, its) for its, ours in outputs.items()]
    try:
        try:
            pid = _spawn(command, environment, mask, actions)
        except OSError as problem:
            if problem.errno != errno.ENOEXEC:
                raise
            # A script without `#!`: shells, and execvp(3), run it with sh; posix_spawn does not.
            found = shutil.which(command[0], path=environment.get("PATH")) or command[0]
            pid = _spawn(["/bin/sh", found, *command[1:]], environment, mask, actions)
    except (OSError, ValueError) as problem:
        return _not_started(problem)
    return Child(pid)


def _spawn(
    command: list[str],
    environment: Mapping[str, str],
    mask: Iterable[int],
    actions: Sequence[tuple[int, int, int]],
) -> int:
    """Return the process id of a started program. Raises OSError."""
    return os.posix_spawnp(
        command[0], command, environment, file_actions=actions, setsigmask=mask, setsigdef=_IGNORED_BY_PYTHON
    )


def _not_started(problem: OSError | ValueError) -> NotStarted:
    """Return why a command could not be started."""
    if isinstance(problem, OSError) and problem.errno == errno.ENOENT:
        return NotStarted(NOT_FOUND, "command not found")
    reason = problem.strerror if isinstance(problem, OSError) else None
    return NotStarted(NOT_EXECUTABLE, (reason or str(problem)).lower())


class Child:
    """A running command. Used by the thread that holds the signals back."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._is_stopped = False

    def wait(self) -> Ended:
        """Hand signals on until the command has ended, and return how. Stops and continues along with it."""
        while (ended := self._look()) is None:
            received = _next_signal()
            if received is not None:
                number, was_sent = received
                self._hand_on(number, was_sent=was_sent)
        return ended

    def _look(self) -> Ended | None:
        """Return how the command has ended; None while it lives."""
        while True:
            pid, status = os.waitpid(self._pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            if pid == 0:
                return None
            if os.WIFSTOPPED(status):
                self._is_stopped = True
                # By SIGSTOP a supervisor may throttle the child, and will continue the child alone.
                if os.WSTOPSIG(status) in _JOB_CONTROL or _is_in_foreground():
                    _stop()
            elif os.WIFCONTINUED(status):
                self._is_stopped = False
            elif os.WIFSIGNALED(status):
                return Ended(_BY_SIGNAL + os.WTERMSIG(status), os.WTERMSIG(status))
            else:
                return Ended(os.WEXITSTATUS(status))

    def _hand_on(self, number: int, *, was_sent: bool) -> None:
        """Give the child a signal, unless it has it from the terminal already."""
        if number == signal.SIGCHLD:
            return
        if was_sent or number not in _OF_TERMINAL or not self._is_in_our_group():
            # Not reaped yet, so the id is still the child's.
            os.kill(self._pid, number)
        elif number == signal.SIGTSTP and self._is_stopped:
            _stop()

    def _is_in_our_group(self) -> bool:
        """Return whether the child is still in our process group; an interactive shell makes one of its own."""
        try:
            return os.getpgid(self._pid) == os.getpgrp()
        except OSError:
            return True


if sys.platform == "darwin":  # has no sigtimedwait, and drops a blocked signal that has no handler

    def _next_signal() -> tuple[int, bool] | None:
        """Return the next signal, and whether it was sent by a process; blocks until one comes."""
        number = signal.sigwait(_HELD)
        return number, not (number in _OF_TERMINAL and _is_in_foreground())

else:

    def _next_signal() -> tuple[int, bool] | None:
        """Return the next signal, and whether it was sent by a process; None after a second without one."""
        # A second: a thread that the application's start-up code made may have taken SIGCHLD.
        received = signal.sigtimedwait(_HELD, _LOOK_EVERY_S)
        return None if received is None else (received.si_signo, received.si_code <= 0)


def _nothing(_number: int, _frame: object) -> None:
    """Handle a signal that is waited for."""


def _is_in_foreground() -> bool:
    """Return whether our process group is the one that the controlling terminal listens to."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _stop() -> None:
    """Stop this process, so that the shell sees the job stopped; returns when it is continued.

    In a group that no shell could continue the kernel drops the signal, and this returns at once.
    """
    os.kill(os.getpid(), signal.SIGTSTP)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTSTP})
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTSTP})
