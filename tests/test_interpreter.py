"""A fork and an import within a function never meet."""

from __future__ import annotations

import ast
import os
import threading
from pathlib import Path

import pytest

from otel_agent_telemetry.interpreter import importing

PACKAGE = Path(__file__).parent.parent / "otel_agent_telemetry"
AT_RUNTIME = ("client.py", "config.py", "run_context.py", *("buffer", "delivery", "otel", "recording"))
"""What is called in processes that record. What sets providers up, and storage, is imported before or by these."""
AT_START = {"otel/at_start/sitecustomize.py", "otel/instrument.py", "otel/instrumentations.py", "otel/provider.py"}


def files() -> list[Path]:
    found = [
        path
        for part in AT_RUNTIME
        for path in ([PACKAGE / part] if part.endswith(".py") else (PACKAGE / part).rglob("*.py"))
    ]
    return [path for path in found if path.relative_to(PACKAGE).as_posix() not in AT_START]


def unguarded(node: ast.AST, *, guarded: bool, in_function: bool):
    """Yield the imports within functions that are not within `with importing():`."""
    for child in ast.iter_child_nodes(node):
        inside = in_function or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
        held = guarded or (isinstance(child, ast.With) and "importing()" in map(ast.unparse, child.items))
        if isinstance(child, (ast.Import, ast.ImportFrom)) and inside and not held:
            yield child
        yield from unguarded(child, guarded=held, in_function=inside)


@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_within_functions_are_guarded(path):
    """A child of a fork would hang, or fail, at what another thread has imported only half-way."""
    found = list(unguarded(ast.parse(path.read_text("utf-8")), guarded=False, in_function=False))

    assert [ast.unparse(node) for node in found] == []


@pytest.mark.requires("POSIX")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_waits_for_imports_and_keeps_others_out():
    """One that is under way is finished first; the child may import at once."""
    entered, ended = threading.Event(), threading.Event()

    def work():
        with importing():
            entered.set()
            ended.wait(0.2)
            ended.set()

    thread = threading.Thread(target=work)
    thread.start()
    entered.wait()
    pid = os.fork()
    if pid == 0:
        with importing():
            os._exit(0 if ended.is_set() else 1)
    assert os.waitpid(pid, 0)[1] == 0
    thread.join()
    with importing():
        pass
