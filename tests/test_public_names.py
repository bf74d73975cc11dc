"""Public names: sorted, present, and resolved lazily by the package."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "otel_agent_telemetry"
ROOT = Path(__file__).parent.parent / PACKAGE


def _declared(path: Path) -> list[str] | None:
    """The names in a file's literal `__all__`, None when it has none."""
    for node in ast.parse(path.read_text("utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            return list(ast.literal_eval(node.value))  # type: ignore[attr-defined]
    return None


FILES = [path for path in sorted(ROOT.rglob("*.py")) if _declared(path) is not None]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_names_are_sorted_and_stand_once(path: Path) -> None:
    """`__all__` is in alphabetical order, so a diff shows what came and went."""
    names = _declared(path)
    assert names is not None
    assert names == sorted(set(names))
    assert not [name for name in names if name.startswith("_") and not name.startswith("__")]


def test_the_package_resolves_every_public_name() -> None:
    """Each name in the package's `__all__` is there, and dir() shows it."""
    package = importlib.import_module(PACKAGE)
    assert package.__all__
    for name in package.__all__:
        assert getattr(package, name) is not None
        assert name in dir(package)


def test_all_is_complete() -> None:
    """Each name that the package resolves, for readers or for type checkers, is in `__all__`."""
    package = importlib.import_module(PACKAGE)
    tree = ast.parse((ROOT / "__init__.py").read_text("utf-8"))
    checked = next(
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
    )
    for_type_checkers = {
        alias.name: node.module for node in checked.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert set(package.__all__) == set(package._MODULES) == set(for_type_checkers)
    assert for_type_checkers == package._MODULES


TESTING = f"{PACKAGE}.testing"
USERS = [
    *sorted(ROOT.parent.glob("*.md")),
    *sorted((ROOT.parent / "docs").rglob("*.md")),
    *sorted((ROOT.parent / "examples").rglob("*.py")),
]
"""What shows users how to import; CONTRIBUTING.md is for maintainers."""


def _imported(path: Path) -> Iterator[tuple[str, str]]:
    """`(module, name)` of each import of the package in a file of Python, or in a page's Python blocks."""
    text = path.read_text("utf-8")
    code = (
        [text] if path.suffix == ".py" else re.findall(r"^```python[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    )
    for block in code:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Import):
                yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] == PACKAGE)
            elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
                yield from ((node.module or "", alias.name) for alias in node.names)


@pytest.mark.parametrize("path", USERS, ids=lambda path: str(path.relative_to(ROOT.parent)))
def test_documentation_and_examples_import_public_names_only(path: Path) -> None:
    """Inner modules are private: whoever copies an example depends on nothing that may change without notice."""
    public = {name: set(importlib.import_module(name).__all__) | {""} for name in (PACKAGE, TESTING)}
    public[PACKAGE].add("testing")
    assert [(module, name) for module, name in _imported(path) if name not in public.get(module, ())] == []


def test_entry_points_resolve() -> None:
    """What the distribution declares to OpenTelemetry, pytest and the shell is there."""
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text("utf-8"))["project"]
    groups = [project.get("scripts", {}), *project.get("entry-points", {}).values()]
    for target in (target for group in groups for target in group.values()):
        module, _, name = target.partition(":")
        assert not name or getattr(importlib.import_module(module), name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """Laziness does not change what a misspelling costs."""
    package = importlib.import_module(PACKAGE)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = package.no_such_name


def test_importing_the_package_loads_nothing_heavy_and_starts_nothing() -> None:
    """A fresh process that imports the package has one thread and none of the heavy modules."""
    heavy = ["sqlalchemy", "alembic", "httpx", "typer", "rich", "starlette"]
    program = (
        f"import sys, threading, {PACKAGE}\n"
        f"print([name for name in {heavy!r} if name in sys.modules], threading.active_count())"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT.parent, check=True, capture_output=True, text=True
    )
    assert answer.stdout == "[] 1\n"
