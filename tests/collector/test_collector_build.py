"""`make collector`: builds what is not there, and says what it needs."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess

import pytest
from collectors import FILES
from on_disk import PATIENCE_S

SCRIPT = FILES / "build.sh"
PROGRAMS = ("bash", "dirname", "env")


def build(folder, *, path):
    """Exit code, output and errors of the script with a cache folder and a PATH of the test's own."""
    done = subprocess.run(
        [SCRIPT],
        env={**os.environ, "AGENT_TELEMETRY_CACHE": str(folder), "PATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    return done.returncode, done.stdout.strip(), done.stderr


@pytest.fixture
def path_without_go(tmp_path):
    """A PATH with what a script needs, and no Go."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in PROGRAMS:
        (folder / name).symlink_to(shutil.which(name))
    return folder


def pretend_go(folder, version):
    """A `go` that only tells its version, and fails when it is asked to build."""
    program = folder / "go"
    program.write_text(f'#!/bin/sh\n[ "$1" = env ] && echo {version} || exit 3\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def test_machine_without_go_is_told_what_is_needed(path_without_go, tmp_path):
    """One line, and nothing is left behind."""
    code, out, said = build(tmp_path / "cache", path=path_without_go)
    assert (code, out, len(said.splitlines())) == (1, "", 1)
    assert "Go 1.21" in said
    assert "found: none" in said
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("version", ["go1.9.7", "go1.19.8", "go1.20"])
def test_go_that_cannot_fetch_a_newer_one_is_named(path_without_go, tmp_path, version):
    """Debian 12 has such a one."""
    pretend_go(path_without_go, version)
    code, _, said = build(tmp_path / "cache", path=path_without_go)
    assert code == 1
    assert f"found: {version}" in said


def test_collector_that_is_there_is_not_built_again(collector_binary, tmp_path):
    """The same builder.yaml and the same Go: the path, at once; a failing `go` is not asked to build."""
    folder = tmp_path / "bin"
    folder.mkdir()
    pretend_go(folder, collector_binary.name.rpartition("-")[2])
    code, out, said = build(collector_binary.parents[1], path=f"{folder}:{os.environ['PATH']}")
    assert (code, out) == (0, str(collector_binary)), said


def test_other_go_builds_again(collector_binary, tmp_path):
    """The name of the binary holds the version; what was there stays until the new one is made."""
    folder = tmp_path / "bin"
    folder.mkdir()
    pretend_go(folder, "go1.99.9")
    cache = tmp_path / "cache"
    (cache / "collector").mkdir(parents=True)
    (cache / "collector" / collector_binary.name).touch()
    code, _, _ = build(cache, path=f"{folder}:{os.environ['PATH']}")
    assert code == 3
    assert (cache / "collector" / collector_binary.name).exists()
