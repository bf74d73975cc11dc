"""Repositories of real git for the tests of hooks, in an environment that no configuration of this machine reaches."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

NOTHING_OF_OURS = (
    "GIT_",
    "TELEMETRY_",
    "AGENT_",
    "OTEL_",
    "CLAUDE",
    "CODEX_",
    "GEMINI_",
    "QWEN_",
    "OPENCODE",
    "COPILOT_",
)
NOT_INHERITED = ("TRACEPARENT", "BAGGAGE", "CI", "EDITOR", "VISUAL", "PRE_COMMIT_RUNNING_LEGACY")
TIMEOUT_S = 120.0

RECORDING_PYTHON = """#!/bin/sh
{{ for word; do printf '%s\\n' "[$word]"; done; cat; echo end; }} >>'{log}.part'
mv '{log}.part' '{log}'
"""
"""Stands for the interpreter that a hook starts in the background: writes down its arguments and its input."""


def git_environment(home: Path, **more: str) -> dict[str, str]:
    """The environment of a user whose home is `home`, who has git and nothing else."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(NOTHING_OF_OURS) and name not in NOT_INHERITED
    }
    own = {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config"), "GIT_CONFIG_NOSYSTEM": "1", "EDITOR": "false"}
    return {**kept, **own, **more}


class GitUser:
    """A user of git with a home of their own; `background` is where what the hooks start is written down."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True)
        self.home = home
        self.background = home / "background.log"
        self.python = home / "python"
        self.python.write_text(RECORDING_PYTHON.format(log=self.background))
        self.python.chmod(0o755)
        (home / ".gitconfig").write_text(
            "[user]\nname = Ann\nemail = ann@example.org\n[commit]\ngpgSign = false\n[init]\ndefaultBranch = main\n"
            '[advice]\nignoredHook = false\n[protocol "file"]\nallow = always\n'
        )

    def git(
        self, folder: Path, *arguments: str, check: bool = True, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run git in a folder; the result has what it printed."""
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env=git_environment(self.home, **environ),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0 or not check, done.stderr
        return done

    def init(self, folder: Path) -> Path:
        """Make a repository with one commit."""
        folder.mkdir(parents=True)
        self.git(folder, "init", "-q")
        self.git(folder, "commit", "-q", "--allow-empty", "-m", "first")
        return folder

    def commit(self, folder: Path, message: str, *arguments: str, **environ: str) -> str:
        """Make a commit with this message, and return its hash."""
        self.git(folder, "commit", "-q", "--allow-empty", "-m", message, *arguments, **environ)
        return self.head(folder)

    def head(self, folder: Path, name: str = "HEAD") -> str:
        """The hash of a commit."""
        return self.git(folder, "rev-parse", name).stdout.strip()

    def message(self, folder: Path, name: str = "HEAD") -> str:
        """The message of a commit."""
        return self.git(folder, "log", "-1", "--format=%B", name).stdout.strip()

    def started(self) -> list[str]:
        """What the hooks' background was started with, as soon as it is written down; its input comes last."""
        until = time.monotonic() + TIMEOUT_S
        while not self.background.exists():
            assert time.monotonic() < until, "nothing was started"
            time.sleep(0.01)
        lines = self.background.read_text().splitlines()
        self.background.unlink()
        return lines[: lines.index("end")]

    def nothing_started(self) -> bool:
        """Whether nothing was started in the background so far."""
        return not self.background.exists() and not self.background.with_suffix(".log.part").exists()
