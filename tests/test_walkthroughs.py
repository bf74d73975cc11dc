"""The quick starts and other pages that are typed, word for word: each command prints what the page says.

A block of Python with a `title` is a file. In a block `console` a line after `$ ` is typed into one shell for the whole
page, in an empty folder, with an empty home; the lines below it are what it prints, where `…` stands for anything.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted((ROOT / "docs/start").glob("*.md")), ROOT / "docs/faq.md", ROOT / "docs/migrate.md"]
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
END = "--end-of-command--"
PATIENCE_S = 600
"""A page that waits for what never comes ends then, with the command that it waited in."""


def commands_of(block):
    """Each command of a console block with the lines that it prints."""
    found = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


class Shell:
    """One bash, whose commands are typed one by one."""

    def __init__(self, folder):
        names = ("PATH", "LANG", "LC_ALL", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
        environment = {name: os.environ[name] for name in names if name in os.environ}
        environment |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder),
            "TELEMETRY_BASE_DIR": str(folder / ".telemetry"),
            "TELEMETRY_EXIT_TIMEOUT_S": "20",  # rows, on a busy machine too
            "TELEMETRY_DISCOVER_SERVICE": "false",  # of another test on this machine
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*",  # they import the frameworks of other tests
        }
        self._bash = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._watch = threading.Timer(PATIENCE_S, os.killpg, (self._bash.pid, signal.SIGKILL))
        self._watch.start()

    def run(self, command):
        """Type a command; return the lines that it prints."""
        self._bash.stdin.write(f"{command}\necho; echo {END}\n")  # the first for output without an end of line
        self._bash.stdin.flush()
        lines = []
        while not (line := self._bash.stdout.readline()).startswith(END):
            assert line, f"the shell ended in {command!r}: {''.join(lines)}"
            lines.append(line.rstrip("\n"))
        return lines[:-1] if lines and not lines[-1] else lines

    def close(self):
        """End it, and what it left running."""
        self._watch.cancel()
        os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.communicate()


@pytest.fixture
def shell(tmp_path):
    opened = Shell(tmp_path)
    yield opened
    opened.close()


def as_pattern(lines):
    """The pattern of printed lines; a line that is only `…` stands for any number of them."""
    parts = []
    for line in lines:
        if line.strip() == "…":
            parts.append(r"(?:.*\n)*")
        else:
            words = [re.escape(part) for part in re.split(r"\s*…\s*", line)]
            parts.append(r".*?".join(words) + r"\s*\n")
    return "".join(parts)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_does_what_it_says(page, shell, tmp_path):
    """In order, from an empty folder."""
    for language, title, text in BLOCK.findall(page.read_text("utf-8")):
        if title:
            (tmp_path / title).write_text(text)
        elif language == "console":
            for command, expected in commands_of(text):
                printed = shell.run(command)
                shown = "".join(f"{line}\n" for line in printed)
                assert re.fullmatch(as_pattern(expected), shown), f"$ {command}\n{shown}"
