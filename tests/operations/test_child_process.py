"""A command as a child: exit statuses, signals, job control, and what it inherits. Real processes and terminals.

Each test names what users report of programs that start others: lost exit codes (`env`, `npm run`), signals that
arrive twice or never (`docker run`, `npm`), terminals that are none any more, `make` without its job server.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import command_driver
import pytest
from on_disk import PATIENCE_S, ROOT, child_environment
from terminal import Terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX")


def driver(*commands, shown=False):
    return [sys.executable, command_driver.__file__, *(["--shown"] if shown else []), json.dumps(commands)]


def as_typed(*command):
    """The line that starts a command below the driver, for a shell."""
    return shlex.join(driver(list(command))) + "\n"


def with_default_signals():
    """What a command in the background of a shell, or under `nohup`, ignores is not ignored in a new process."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


def started(*command, **more):
    return subprocess.Popen(
        driver(list(command)), cwd=ROOT, env=child_environment(), text=True, stdout=subprocess.PIPE,
        preexec_fn=with_default_signals, **more,  # noqa: PLW1509 - the parent has no threads that matter here
    )  # fmt: skip


def test_the_exit_status_is_the_one_that_a_shell_gives(tmp_path):
    """Ends, signals, and every way not to be started."""
    for name, content in {"plain": "exit 5\n", "odd": "#!/missing/interpreter\n", "data": "x"}.items():
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o644 if name == "data" else 0o755)
    expected = {
        ("true",): "0 0",
        ("sh", "-c", "exit 7"): "7 0",
        ("sh", "-c", "exit 255"): "255 0",
        ("sh", "-c", "kill -TERM $$"): "143 15",
        ("sh", "-c", "kill -KILL $$"): "137 9",
        ("sh", "-c", "kill -RTMIN $$"): "162 34",
        (str(tmp_path / "plain"),): "5 0",
        (str(tmp_path / "odd"),): "127 command not found",
        (str(tmp_path / "missing"),): "127 command not found",
        ("no-such-command-anywhere",): "127 command not found",
        (str(tmp_path / "data"),): "126 permission denied",
        (str(tmp_path),): "126 permission denied",
        (str(tmp_path / "data" / "below"),): "126 not a directory",
    }
    done = subprocess.run(
        driver(*map(list, expected), shown=True), cwd=ROOT, env=child_environment(), text=True,
        stdout=subprocess.PIPE, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert dict(zip(expected, done.stdout.splitlines(), strict=True)) == expected
    assert done.returncode == 126


NAMES = ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "CONT", "WINCH")
SHOW = (
    "import signal, sys\n"
    f"for name in {NAMES}:\n"
    "    signal.signal(getattr(signal, 'SIG' + name), lambda number, _: print(signal.Signals(number).name, flush=True))\n"
    "print('ready', flush=True)\n"
    "sys.stdin.readline()\n"
    "sys.exit(9)"
)


def test_signals_to_us_are_handed_on_once():
    """As a supervisor sends them, to the process that it started."""
    with started(sys.executable, "-c", SHOW, stdin=subprocess.PIPE) as process:
        assert process.stdout.readline() == "ready\n"
        for name in NAMES:
            process.send_signal(getattr(signal, f"SIG{name}"))
            assert process.stdout.readline() == f"SIG{name}\n"
        assert process.communicate("end\n", timeout=PATIENCE_S)[0] == ""
    assert process.returncode == 9


def test_a_command_that_a_signal_ends_ends_us_with_128_and_its_number():
    """SIGTERM to us, which the command does not handle."""
    with started("sh", "-c", "echo ready; exec sleep 600") as process:
        process.stdout.readline()
        process.terminate()
        assert process.wait(PATIENCE_S) == 143


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_the_command_begins_with_the_signals_that_we_were_started_with():
    """Python's ignored SIGPIPE is not inherited, `nohup`'s ignored SIGHUP is; nothing is blocked; SIGCHLD too works."""
    inner = shlex.join(driver(["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]))
    done = subprocess.run(
        ["sh", "-c", f"trap '' HUP CHLD; {inner}"], cwd=ROOT, env=child_environment(), text=True,
        stdout=subprocess.PIPE, timeout=PATIENCE_S, check=False, preexec_fn=with_default_signals,
    )  # fmt: skip
    masks = {name: int(value, 16) for name, value in (line.split(":\t") for line in done.stdout.splitlines())}
    ignored = {number for number in range(1, 32) if masks["SigIgn"] >> (number - 1) & 1}
    assert (done.returncode, masks["SigBlk"]) == (0, 0)
    assert ignored - {signal.SIGCHLD} == {signal.SIGHUP}


def test_a_reader_that_ends_early_ends_the_command_by_sigpipe():
    """`yes | head -1`: a wrapper with Python's SIGPIPE shows "Broken pipe" here, and exit status 1."""
    line = f"{shlex.join(driver(['yes']))} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line], cwd=ROOT, env=child_environment(), text=True, capture_output=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("y\n141\n", "")


def test_make_keeps_its_job_server(tmp_path):
    """Descriptors beyond the three are the command's, too; else make warns and runs one job at a time."""
    (tmp_path / "Makefile").write_text(
        f"all:\n\t+{shlex.join(driver(['make', 'inner']))}\ninner:\n\t@echo $(MAKEFLAGS)\n"
    )
    done = subprocess.run(
        ["make", "-C", str(tmp_path), "-j2", "all"], env={**child_environment(), "PYTHONPATH": str(ROOT)}, text=True,
        capture_output=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "jobserver" in done.stdout
    assert "warning" not in done.stderr


LOOK = (
    "import os, signal, sys\n"
    "signal.signal(signal.SIGWINCH, lambda *_: print('size', *os.get_terminal_size(), flush=True))\n"
    "print('terminals', os.isatty(0), os.isatty(1), os.isatty(2), *os.get_terminal_size(), flush=True)\n"
    "for line in sys.stdin: print('read', line.strip(), flush=True)\n"
    "print('end', flush=True)"
)


def test_the_terminal_is_the_commands_own():
    """All three streams, its size, a new size, lines and the end of input."""
    with Terminal(*driver([sys.executable, "-c", LOOK]), rows=30, columns=100) as terminal:
        terminal.wait_for("terminals True True True 100 30")
        terminal.resize(40, 120)
        terminal.wait_for("size 120 40")
        terminal.type("hello\n")
        terminal.wait_for("read hello")
        terminal.type("\x04")
        terminal.wait_for("end")
        assert terminal.process.wait(PATIENCE_S) == 0


COUNT = (
    "import signal\n"
    "got = []\n"
    "signal.signal(signal.SIGINT, lambda *_: (got.append(1), print('interrupted', flush=True)))\n"
    "signal.signal(signal.SIGUSR1, lambda *_: exit(len(got)))\n"
    "print('ready', flush=True)\n"
    "while True: signal.pause()"
)


def test_ctrl_c_reaches_the_command_once():
    """Programs take a second one as "at once", and leave work undone: reported of npm, of docker, of pipenv."""
    with Terminal(*driver([sys.executable, "-c", COUNT])) as terminal:
        terminal.wait_for("ready")
        terminal.type("\x03")
        terminal.wait_for("interrupted")
        # Signals are handed on in the order of their numbers, so one more SIGINT would have come before this.
        terminal.process.send_signal(signal.SIGUSR1)
        assert terminal.process.wait(PATIENCE_S) == 1


def test_job_control_in_a_shell():
    """Ctrl-Z stops the job, `fg` continues it, Ctrl-C ends it; the shell sees one job and its exit status."""
    with Terminal("bash", "--norc", "--noprofile", "-i", env={"HISTFILE": "/dev/null"}) as terminal:
        terminal.wait_for("ready> ")
        terminal.type(as_typed("sh", "-c", "echo begun; read line; echo got $line; exec sleep 600"))
        terminal.wait_for("begun\r\n")
        terminal.type("\x1a")
        terminal.wait_for("Stopped")
        terminal.wait_for("ready> ")
        terminal.type("fg\n")
        terminal.type("this\n")
        terminal.wait_for("got this\r\n")
        terminal.type("\x03")
        terminal.wait_for("ready> ")
        terminal.type("echo status $?\n")
        terminal.wait_for("status 130")
        terminal.type("exit\n")


def test_a_program_for_whole_screens_works_and_can_be_suspended(tmp_path):
    """vim: it writes a file, suspends itself (it stops its whole group), comes back, and quits with its own status."""
    file = tmp_path / "note.txt"
    with Terminal("bash", "--norc", "--noprofile", "-i", env={"HISTFILE": "/dev/null"}) as terminal:
        terminal.wait_for("ready> ")
        terminal.type(as_typed("vim", "-u", "NONE", "-N", str(file)))
        terminal.wait_for("[New]")
        terminal.type("ihello\x1b:w\r")
        terminal.wait_for("written")
        terminal.type("\x1a")
        terminal.wait_for("Stopped")
        terminal.wait_for("ready> ")
        terminal.type("fg\n")
        terminal.wait_for("hello")
        terminal.type(":cq\r")
        terminal.wait_for("ready> ")
        terminal.type("echo status $?\n")
        terminal.wait_for("status 1")
        terminal.type("exit\n")
    assert file.read_text() == "hello\n"


def test_a_command_that_is_throttled_does_not_stop_us():
    """Programs such as cpulimit stop and continue the command alone: without a shell nobody would continue us."""
    with started("sh", "-c", "echo $$; read line; exit 4", stdin=subprocess.PIPE) as process:
        pid = int(process.stdout.readline())
        for number in (signal.SIGSTOP, signal.SIGCONT) * 3:
            os.kill(pid, number)
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.wait(PATIENCE_S) == 4
