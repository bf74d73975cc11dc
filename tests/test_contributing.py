"""The pages for contributors against the project: what they name exists, and what they call guarded is guarded."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from on_disk import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
PACKAGE = ROOT / "otel_agent_telemetry"
WHERE = PAGE.split("## Where is …?")[1].split("\n## ")[0]
WORDS = sorted(set(re.findall(r"`([^`\n]+)`", PAGE)))
PAGES = (
    "CONTRIBUTING.md",
    "README.md",
    "docs/architecture.md",
    "docs/decisions.md",
    "docs/files.md",
    "docs/postgresql.md",
)


def is_path(word):
    return "{" not in word and bool(re.fullmatch(r"[\w./-]+(/|\.(py|md|toml|txt|yaml))", word))


def defined_in(path):
    """Names of functions, classes and constants at the top of a module."""
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


@pytest.mark.parametrize("page", PAGES)
def test_every_path_on_a_page_exists(page):
    """Below the root, or below the package; a path that begins with `{base}` is no file of the project."""
    words = set(re.findall(r"`([^`\n]+)`", (ROOT / page).read_text("utf-8")))
    paths = [word for word in words if is_path(word)]
    assert [path for path in paths if not (ROOT / path).exists() and not (PACKAGE / path).exists()] == []


@pytest.mark.parametrize("word", [word for word in WORDS if word.startswith("make ")])
def test_every_make_command_is_a_target(word):
    """`make NAME`, with or without variables."""
    target = word.split()[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


ANSWERS = re.findall(r"`([\w/]+\.py)`: ((?:`\w+`(?:, )?)+)", WHERE)


@pytest.mark.parametrize(("path", "names"), ANSWERS, ids=[path for path, _ in ANSWERS])
def test_every_answer_names_what_its_file_defines(path, names):
    """A function, class or constant of that file."""
    missing = set(re.findall(r"`(\w+)`", names)) - set(defined_in(PACKAGE / path))
    assert missing == set()


def test_every_answer_counts_its_files():
    """The third column is the number of files in the second."""
    rows = [row.strip("| ").split(" | ") for row in WHERE.splitlines() if row.startswith("| ") and ".py`" in row]
    assert len(rows) >= 12
    assert [row[0] for row in rows if len(set(re.findall(r"`[\w/]+\.py`", row[1]))) != int(row[2])] == []


GUARDS = {
    "setting": (
        "docs/configuration.md",
        "| `rate_limit_rpm` |",
        "tests/test_docs.py::test_every_setting_is_documented_with_its_default",
    ),
    "endpoint": (
        "docs/http-api.md",
        "| `GET /version`",
        "tests/service/test_service_docs.py::test_every_call_stands_in_the_table",
    ),
    "command": (
        "docs/cli.md",
        "## stats\n",
        "tests/cli/test_cli_error_handling.py::test_documentation_names_every_command_option_and_exit_code",
    ),
    "emitter": (
        "docs/reference/attributes.md",
        "| `traceloop.span.kind` |",
        "tests/test_attribute_reference.py::test_every_name_that_the_code_reads_is_on_the_page",
    ),
}
"""Kind of addition → the page, what a line of it holds, and the test that fails without that line."""


@pytest.fixture(scope="module")
def unguarded(tmp_path_factory):
    """The result of the guards in a copy of the project whose pages lack one line for each kind of addition."""
    copy = tmp_path_factory.mktemp("copy")
    for folder in ("otel_agent_telemetry", "scripts"):
        (copy / folder).symlink_to(ROOT / folder)
    for folder in ("docs", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", ".hypothesis"))
    for file in ("pyproject.toml", "README.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / file, copy)
    for page, text, _ in GUARDS.values():
        lines = (copy / page).read_text("utf-8").splitlines(keepends=True)
        (copy / page).write_text("".join(line for line in lines if text not in line), "utf-8")
    tests = sorted({guard for _, _, guard in GUARDS.values()})
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--assert=plain", "-p", "no:cacheprovider", *tests],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    ).stdout


@pytest.mark.parametrize("kind", GUARDS)
def test_an_addition_without_its_line_of_docs_fails_a_test(unguarded, kind):
    """The test that CONTRIBUTING.md names beside the page."""
    page, _, guard = GUARDS[kind]
    assert page in PAGE
    assert f"`{Path(guard.split('::')[0])}`" in PAGE
    assert f"FAILED {guard}" in unguarded
