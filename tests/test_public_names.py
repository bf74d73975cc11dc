"""Public names: sorted, present, and resolved lazily by the package."""

import ast
import importlib
import subprocess
import sys
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


def test_an_unknown_name_is_an_attribute_error() -> None:
    """Laziness does not change what a misspelling costs."""
    package = importlib.import_module(PACKAGE)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = package.no_such_name


def test_importing_the_package_loads_nothing_heavy_and_starts_nothing() -> None:
    """A fresh process that imports the package has one thread and none of the heavy modules."""
    heavy = ["sqlalchemy", "alembic", "httpx", "typer", "rich", "fastapi"]
    program = (
        f"import sys, threading, {PACKAGE}\n"
        f"print([name for name in {heavy!r} if name in sys.modules], threading.active_count())"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT.parent, check=True, capture_output=True, text=True
    )
    assert answer.stdout == "[] 1\n"
