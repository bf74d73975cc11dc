"""The texts of findings and log records, as they stand in the sources, with `…` for what varies, without backquotes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from on_disk import ROOT

PACKAGE = ROOT / "otel_agent_telemetry"
_VARIES = "…"
_LOGGED = {"warning", "error", "exception"}


def doctor_findings() -> set[str]:
    """Return the text of each warning and error of `doctor` that has words of its own."""
    checks = [*(PACKAGE / "operations").glob("check_*.py"), PACKAGE / "operations/doctor.py"]
    return {shape for path in checks for shape in _finding_shapes(ast.parse(path.read_text("utf-8")))}


def log_records() -> set[str]:
    """Return the text of each record at WARNING or above that has words of its own."""
    return {shape for path in PACKAGE.rglob("*.py") for shape in _record_shapes(ast.parse(path.read_text("utf-8")))}


def _finding_shapes(module: ast.Module) -> Iterator[str]:
    """Yield the shapes of `warn(about, text, fix)` and `error(about, text, fix)` in a module."""
    for call, function in _calls(module):
        if isinstance(call.func, ast.Name) and call.func.id in ("warn", "error"):
            yield from _with_words(_shape(call.args[1], function))


def _record_shapes(module: ast.Module) -> Iterator[str]:
    """Yield the shapes of `_log.warning(message)`, `counters.warn(topic, message)` and `counters.failed(what, …)`."""
    for call, function in _calls(module):
        if not isinstance(call.func, ast.Attribute) or not call.args:
            continue
        owner, name = ast.unparse(call.func.value), call.func.attr
        counts = owner.endswith("counters") or owner == "self"
        if owner == "_log" and name in _LOGGED:
            yield from _with_words(_shape(call.args[0], function))
        elif counts and name == "warn" and len(call.args) > 1:
            yield from _with_words(_shape(call.args[1], function))
        elif counts and name in ("failed", "internal"):
            yield from _with_words(_shape(call.args[0], function) + f" failed: {_VARIES}")


def _calls(module: ast.Module) -> Iterator[tuple[ast.Call, ast.AST]]:
    """Yield each call with the function that it stands in, where the texts of its names are assigned."""
    for function in ast.walk(module):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from ((call, function) for call in ast.walk(function) if isinstance(call, ast.Call))


def _with_words(shape: str) -> Iterator[str]:
    """Yield a shape unless all of it varies: its words are then those of another message."""
    if re.search(r"[a-z]{3}", shape.replace(" failed", "")):
        yield shape


def _shape(text: ast.expr, function: ast.AST) -> str:
    """Return a text with `…` for each part that is known only at run time."""
    if isinstance(text, ast.Constant) and isinstance(text.value, str):
        shape = re.sub(r"%[-\d.]*[a-z]", _VARIES, text.value.replace("`", ""))
    elif isinstance(text, ast.JoinedStr):
        shape = "".join(_shape(part, function) for part in text.values)
    elif isinstance(text, ast.Name):
        shape = _assigned(text.id, function)
    elif isinstance(text, ast.BinOp) and isinstance(text.op, ast.Add):
        shape = _shape(text.left, function) + _shape(text.right, function)
    else:
        shape = _VARIES
    return re.sub(rf"{_VARIES}(?:{_VARIES})+", _VARIES, shape)


def _assigned(name: str, function: ast.AST) -> str:
    """Return the shape of the text that a function assigns to a name, `…` where it assigns none."""
    values = [node.value for node in ast.walk(function) if isinstance(node, ast.Assign) and _binds(node, name)]
    return next((_shape(text, function) for text in values if isinstance(text, ast.JoinedStr | ast.Constant)), _VARIES)


def _binds(node: ast.Assign, name: str) -> bool:
    return any(isinstance(target, ast.Name) and target.id == name for target in node.targets)
