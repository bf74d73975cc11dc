"""Print the size, the words and the call paths of this package as one table: `make structure`.

    python tests/structure_report.py [ROOT]

Counted from the files below `ROOT/otel_agent_telemetry`: lines of every kind, public definitions, and names that hold a word
outside the field's vocabulary. The calls are counted by `traced_calls.py`, each in a process of its own.
"""

from __future__ import annotations

import ast
import io
import os
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from traced_calls import CALLS

HERE = Path(__file__).resolve().parent
SMALL_FILE_LINES = 60
FOREIGN_WORDS = frozenset({
    *("told", "tell", "tells", "telling", "say", "says", "said", "saying", "tally", "tallies", "companion", "companions"),
    *("chore", "chores", "mend", "mends", "mended", "house", "houses", "owe", "owes", "owed", "hurry", "nap", "pen"),
    *("quiet", "quietly", "surroundings", "patience", "impatient"),
})  # fmt: skip
"""Words of an earlier vocabulary; one of them in an identifier is a name that a reader has to guess."""

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass
class Structure:
    """What was counted in some files."""

    lines: list[int] = field(default_factory=list)
    imports: int = 0
    docstrings: int = 0
    comments: int = 0
    public: int = 0
    private_modules: int = 0
    functions: list[int] = field(default_factory=list)
    foreign: Counter[str] = field(default_factory=Counter)

    def add(self, path: Path) -> None:
        """Count one source file in."""
        text = path.read_text("utf-8")
        tree = ast.parse(text)
        self.lines.append(len(text.splitlines()))
        self.imports += sum(_height(node) for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom)))
        self.docstrings += sum(_height(node) for node in _docstrings(tree))
        self.comments += len(_tokens(text, tokenize.COMMENT))
        self.public += sum(isinstance(node, Definition) and not node.name.startswith("_") for node in tree.body)
        self.private_modules += path.name.startswith("_") and not path.name.startswith("__")
        self.functions += [_height(node) for node in ast.walk(tree) if _is_function(node)]
        names = [path.stem, *_tokens(text, tokenize.NAME)]
        self.foreign.update(name for name in names if words_of(name) & FOREIGN_WORDS)

    def rows(self) -> Iterator[tuple[str, str]]:
        """Each line of the table: what, and how much."""
        total = sum(self.lines) or 1
        small = sum(lines <= SMALL_FILE_LINES for lines in self.lines)
        yield "files", str(len(self.lines))
        yield "lines", f"{total:,}"
        yield "lines a file, median", f"{median(self.lines):g}"
        yield f"files of at most {SMALL_FILE_LINES} lines", f"{small / len(self.lines):.0%}"
        yield "lines a function, median", f"{median(self.functions):g}"
        yield "import lines", f"{self.imports / total:.1%}"
        yield "public definitions / modules named private", f"{self.public} / {self.private_modules}"
        yield "docstring lines", f"{self.docstrings / total:.1%}"
        yield "comment lines", f"{self.comments / total:.1%}"
        yield "names with a foreign word / their uses", f"{len(self.foreign)} / {self.foreign.total()}"


def structure_of(root: Path) -> Structure:
    """Count every Python file below a folder."""
    found = Structure()
    for path in sorted(root.rglob("*.py")):
        found.add(path)
    return found


def words_of(identifier: str) -> set[str]:
    """Split an identifier into its lower-case words: `keep_house` and `KeepHouse` alike."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", identifier)}


def _height(node: ast.AST) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1  # type: ignore[attr-defined]


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))


def _docstrings(tree: ast.Module) -> Iterator[ast.AST]:
    """Docstrings, and the strings that stand below an attribute as its description."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, Definition)):
            yield from (statement for statement in node.body if _is_text(statement))


def _is_text(statement: ast.stmt) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _tokens(text: str, kind: int) -> list[str]:
    return [token.string for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type == kind]


def traced(root: Path, call: str) -> str:
    """Return "functions, files, switches" of one call of the package below `root`, or why there are none."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TELEMETRY_", "OTEL_"))}
    done = subprocess.run(
        [sys.executable, "-P", str(HERE / "traced_calls.py"), call],
        env={**environment, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return f"failed: {(done.stderr.strip() or 'no message').splitlines()[-1]}"
    return ", ".join(done.stdout.split()[-3:])


def main() -> int:
    """Print the table of this checkout, or of the one named on the command line."""
    root = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else HERE.parent
    package, tests = structure_of(root / "otel_agent_telemetry"), structure_of(root / "tests")
    rows = [*package.rows(), ("lines of tests", f"{sum(tests.lines):,}")]
    rows += [(f"{call}: functions, files, switches", traced(root, call)) for call in CALLS]
    width = max(len(what) for what, _ in rows)
    for what, much in rows:
        print(f"{what:{width}}  {much}")
    if package.foreign:
        print("\nforeign words:", ", ".join(f"{name} ({uses})" for name, uses in package.foreign.most_common()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
