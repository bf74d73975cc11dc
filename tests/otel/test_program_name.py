"""What a program without a service name is called."""

from __future__ import annotations

import sys

import pytest

from otel_agent_telemetry.otel.program_name import program_name


@pytest.fixture(autouse=True)
def _afresh():
    """It is looked up once a process."""
    program_name.cache_clear()
    yield
    program_name.cache_clear()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["jobs/report.py", "--day", "1"], "report"),
        (["/srv/nightly.report.py"], "nightly.report"),
        (["/usr/local/bin/gunicorn"], "gunicorn"),
        (["/srv/jobs/__main__.py"], "jobs"),
        (["/srv/tool.pyz"], "tool"),
        (["-c"], None),
        (["-"], None),
        ([""], None),
        ([], None),
        ([7], None),
    ],
)
def test_a_program_is_called_as_its_script(monkeypatch, arguments, expected):
    """As a user would call it; a prompt and `-c` have no name."""
    monkeypatch.setattr(sys, "argv", arguments)
    assert program_name() == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["python", "-m", "jobs.report", "-m", "x"], "report"),
        (["python", "-X", "dev", "-m", "jobs"], "jobs"),
        (["python", "-mjobs.report"], "report"),
        (["python", "-m", "jobs.__main__"], "jobs"),
    ],
)
def test_a_module_has_a_name_before_its_file_is_found(monkeypatch, words, expected):
    """Python fills `sys.argv[0]` in only after `sitecustomize` has been imported."""
    given = words[words.index("-m") + 2 :] if "-m" in words else []
    monkeypatch.setattr(sys, "orig_argv", words)
    monkeypatch.setattr(sys, "argv", ["-m", *given])
    assert program_name() == expected
