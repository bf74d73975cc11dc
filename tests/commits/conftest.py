"""A user of git, a repository with our hooks, and what ends with the test."""

from __future__ import annotations

import sys

import pytest
from repositories import GitUser

from otel_agent_telemetry.commits.install import install


@pytest.fixture
def user(tmp_path, monkeypatch):
    """A user of git whose configuration is their own; the hooks of this test start no Python."""
    made = GitUser(tmp_path / "home")
    monkeypatch.setattr(sys, "executable", str(made.python))
    monkeypatch.setenv("HOME", str(made.home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(made.home / ".config"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(made.home / ".gitconfig"))
    return made


@pytest.fixture
def repository(user, config, tmp_path):
    """A repository with one commit and our hooks."""
    folder = user.init(tmp_path / "a 'repository' $(touch evil)")
    install(config, folder)
    return folder
