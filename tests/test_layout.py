"""Tests stand where what they test stands: a folder for each folder of the package, a file for each module."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "otel_agent_telemetry"

OTHER_FOLDERS = {"bench", "client", "collector", "durability", "emitters", "frameworks", "host"}
"""Folders of tests of no folder of the package: budgets, `client.py`, `collector-config/`, killed processes, recorded emitters, frameworks, what is the application's."""

OTHER_FILES = {
    "test_attribute_reference",
    "test_bench",
    "test_contributing",
    "test_docs",
    "test_packaging",
    "test_troubleshooting",
    "test_walkthroughs",
    "test_layers",
    "test_layout",
    "test_public_names",
}
"""Files of tests of the package as a whole."""


def folders(root: Path) -> set[str]:
    return {path.name for path in root.iterdir() if path.is_dir() and path.name != "__pycache__"}


@pytest.mark.parametrize("name", sorted(folders(TESTS) - OTHER_FOLDERS))
def test_a_folder_of_tests_has_its_folder_in_the_package(name: str) -> None:
    """Whoever reads `storage/` finds its tests in `tests/storage/`."""
    assert (PACKAGE / name).is_dir()


@pytest.mark.parametrize("name", sorted(folders(PACKAGE)))
def test_a_folder_of_the_package_has_its_tests(name: str) -> None:
    """No part of the package goes without a folder of tests."""
    assert list((TESTS / name).glob("test_*.py"))


@pytest.mark.parametrize("name", sorted({path.stem for path in TESTS.glob("test_*.py")} - OTHER_FILES))
def test_a_file_of_tests_has_its_module(name: str) -> None:
    """`tests/test_clock.py` tests `clock.py`; `tests/test_redaction_containers.py` a part of `redaction.py`."""
    words = name.removeprefix("test_").split("_")
    modules = ("_".join(words[:count]) for count in range(len(words), 0, -1))
    assert any((PACKAGE / f"{module}.py").is_file() for module in modules)


def test_exceptions_exist() -> None:
    """A folder or file that was removed is no exception any more."""
    assert folders(TESTS) >= OTHER_FOLDERS
    assert {path.stem for path in TESTS.glob("test_*.py")} >= OTHER_FILES
