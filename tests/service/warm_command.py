"""`agent-telemetry` in a fork of a process that has imported it: a real process without the seconds of its imports.

The command has its own arguments, environment, streams and signals, and ends as its interpreter
does. Its parent is started once for each test process and ends with it. For what an interpreter
does while it starts, or what is imported when, start one: `running.COMMAND`.
"""

from __future__ import annotations

import array
import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
from functools import cache
from importlib import import_module

IMPORTED = (
    "alembic.command",
    "httptools",
    "otel_agent_telemetry.cli.app",
    "otel_agent_telemetry.cli.serve",
    "otel_agent_telemetry.delivery.deliverer",
    "otel_agent_telemetry.service.server",
    "sqlalchemy.dialects.sqlite",
    "uvloop",
)
"""What the command needs, with all that it imports later."""
_MOST_BYTES = 1 << 17
_NUMBER = "i"


class WarmCommand:
    """A running command with the methods of `subprocess.Popen`. Both of its streams go to the file `output`."""

    def __init__(self, arguments, *, env, output):
        self._told, status = os.pipe()
        request = json.dumps({"arguments": [str(word) for word in arguments], "env": env}).encode()
        socket.send_fds(_parent(), [request], [output.fileno(), status])
        os.close(status)
        self.pid = self._number()
        self.returncode = None

    def poll(self):
        """Return the exit code, None while it runs."""
        if self.returncode is None and select.select([self._told], [], [], 0)[0]:
            self._end()
        return self.returncode

    def wait(self, timeout=None):
        """Return the exit code; raises `subprocess.TimeoutExpired`."""
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("agent-telemetry", timeout)
            self._end()
        return self.returncode

    def send_signal(self, number):
        """Send a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        """Send SIGKILL unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def _end(self):
        self.returncode = os.waitstatus_to_exitcode(self._number())
        os.close(self._told)

    def _number(self):
        raw = os.read(self._told, array.array(_NUMBER).itemsize)
        assert raw, "the parent of the commands is gone"
        return array.array(_NUMBER, raw)[0]


@cache
def _parent():
    """Start the parent; return the socket to it, at whose end it ends."""
    from on_disk import ROOT, child_environment

    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = subprocess.Popen(
        [sys.executable, "-m", "tests.service.warm_command", str(its.fileno())],
        cwd=ROOT,
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        pass_fds=[its.fileno()],
        start_new_session=True,
    )
    its.close()
    atexit.register(parent.wait)
    atexit.register(ours.close)
    return ours


# The parent, and the commands that it becomes


def _serve(requests):
    """Fork a command for each request; return in its process, or None at the end of the requests."""
    for name in IMPORTED:
        import_module(name)
    # Else every service would do so after its start.
    import_module("otel_agent_telemetry.page.rendering").compile_templates()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait
    while True:
        request, received, _, _ = socket.recv_fds(requests, _MOST_BYTES, 2)
        if not request:
            return None
        if os.fork() == 0:
            requests.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _wait_for_a_fork(*received)
            return json.loads(request)
        for descriptor in received:
            os.close(descriptor)


def _wait_for_a_fork(output, status):
    """Return in a fork with its streams; this process itself reports the fork's id and exit status, and ends."""
    pid = os.fork()
    if pid == 0:
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        os.close(status)
        return
    os.close(output)
    os.write(status, array.array(_NUMBER, [pid]))
    os.write(status, array.array(_NUMBER, [os.waitpid(pid, 0)[1]]))
    os._exit(0)


def main():
    """Run the command that this process has become."""
    request = _serve(socket.socket(fileno=int(sys.argv[1])))
    if request is None:
        return
    # What these were made for was the parent's file, which may be sought in.
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", buffering=1, closefd=False)
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = ["agent-telemetry", *request["arguments"]]
    from otel_agent_telemetry.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
