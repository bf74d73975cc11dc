"""Runs the small applications of this folder, each in a process of its own."""

from __future__ import annotations

from on_disk import Process

PRELUDE = """
import os, sys
from pathlib import Path
from tests.host.host_state import background_has_begun, changes, children, descriptors, host_state
from tests.host.host_state import fork_in_c, later_than_a_comparison
"""


def run_host(config, code, *arguments, env=None, options=("-W", "error"), status=0, quiet=True):
    """Run an application that records under `config.base_dir` to its end: what it printed.

    Warnings are errors unless `options` differ. `quiet`: nothing may be written to standard
    error. A program that does not end in a minute fails the test.
    """
    out, err = run_noisy_host(config, code, *arguments, env=env, options=options, status=status)
    assert not quiet or not err, err
    return out


def run_noisy_host(config, code, *arguments, env=None, options=("-W", "error"), status=0):
    """As `run_host`, for an application that may write to standard error: both outputs."""
    env = {"TELEMETRY_BASE_DIR": str(config.base_dir), "TELEMETRY_DB_SYNCHRONOUS": "OFF", **(env or {})}
    with Process(PRELUDE + code, *arguments, env=env, options=options) as process:
        ended, out, err = process.end()
    assert ended == status, err
    return out, err
