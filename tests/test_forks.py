"""What a forked child does first, by whichever call it was forked."""

import ctypes
import os
import sys

import pytest

from otel_agent_telemetry import forks

pytestmark = pytest.mark.requires("POSIX")


def holds_in_child(check, fork):
    """Whether a check holds in a child, which does nothing else."""
    child = fork()
    if child == 0:
        status = 1
        try:
            status = 0 if check() else 1
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def fork_in_c():
    """Fork as C code does, without the hooks of Python's own."""
    return ctypes.PyDLL(None).fork()


@pytest.fixture(autouse=True)
def unwatched(monkeypatch):
    """A process that has recorded nothing yet."""
    monkeypatch.setattr(forks, "mark", forks._UNWATCHED)


def noticed_by(mark):
    """Whether it is the mark of a child that has not noticed yet."""
    return mark[0] == 0


@pytest.mark.parametrize("platform", ["linux", "another"])
def test_a_child_that_c_code_forked_sees_it_by_the_mark(monkeypatch, platform):
    """By memory that the kernel clears, and where there is none by the process id."""
    monkeypatch.setattr(sys, "platform", platform)
    forks.watch()

    assert not noticed_by(forks.mark)
    assert holds_in_child(lambda: noticed_by(forks.mark), fork_in_c)
    assert not noticed_by(forks.mark)


def test_hooks_are_called_once_in_the_child_and_not_in_the_parent():
    """In their order, also when several places notice the fork."""
    calls = []
    forks.at_fork(in_child=lambda: calls.append("first"))
    forks.at_fork(in_child=lambda: calls.append("second"))
    forks.watch()

    def noticing_twice():
        forks.notice()
        forks.notice()
        return calls == ["first", "second"] and not noticed_by(forks.mark)

    assert holds_in_child(noticing_twice, fork_in_c)
    forks.notice()
    assert calls == []


def test_a_child_of_a_child_is_noticed_too():
    """Each generation that records watches for the next."""
    forks.watch()

    def in_child():
        forks.notice()
        forks.watch()
        return not noticed_by(forks.mark) and holds_in_child(lambda: noticed_by(forks.mark), fork_in_c)

    assert holds_in_child(in_child, fork_in_c)
