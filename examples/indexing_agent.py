"""Index the definitions in a folder of source files: an agent that does real work.

    python examples/indexing_agent.py FOLDER

It walks the folder, parses each source file and counts its functions and classes. The whole
folder is one run, each sub-folder directly below it is a child run, and each file is an event.
A file that cannot be read or parsed is an error of its run, which then ends `partial`.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from otel_agent_telemetry import RunContext, TelemetryClient

AGENT = "indexing_agent"
SKIPPED_FOLDERS = {".git", ".venv", "node_modules", "__pycache__", ".demo", "build", "dist"}
PATTERNS = {
    ".go": re.compile(r"^func\s+(?:\([^)]*\)\s*)?(\w+)|^type\s+(\w+)", re.MULTILINE),
    ".js": re.compile(r"^\s*(?:export\s+)?(?:async\s+)?(?:function|class)\s+(\w+)", re.MULTILINE),
    ".sh": re.compile(r"^\s*(?:function\s+)?(\w+)\s*\(\)", re.MULTILINE),
}
SUFFIXES = {".py", *PATTERNS}


@dataclass
class IndexTotals:
    """The number of files and definitions below one folder."""

    files: int = 0
    failed: int = 0
    skipped: int = 0
    definitions: Counter[str] = field(default_factory=Counter)

    def add(self, other: IndexTotals) -> None:
        """Add another folder's numbers."""
        self.files += other.files
        self.failed += other.failed
        self.skipped += other.skipped
        self.definitions.update(other.definitions)

    def items(self) -> dict[str, int]:
        """Return the run's item counts."""
        return {
            "items_discovered": self.files + self.failed + self.skipped,
            "items_succeeded": self.files,
            "items_failed": self.failed,
            "items_skipped": self.skipped,
        }


def definitions_in(path: Path) -> Counter[str]:
    """Count the functions and classes of a source file. Raises OSError, SyntaxError, ValueError."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return Counter({"definitions": len(PATTERNS[path.suffix].findall(text))})
    kinds = {ast.FunctionDef: "functions", ast.AsyncFunctionDef: "functions", ast.ClassDef: "classes"}
    return Counter(kinds[type(node)] for node in ast.walk(ast.parse(text)) if type(node) in kinds)


def index_file(path: Path, root: Path, run: RunContext, totals: IndexTotals) -> None:
    """Add one file to the totals. A file that cannot be indexed is logged as an event of the run."""
    name = str(path.relative_to(root))
    if path.suffix not in SUFFIXES:
        totals.skipped += 1
        return
    try:
        found = definitions_in(path)
    except (OSError, SyntaxError, ValueError) as problem:
        totals.failed += 1
        run.log_event("error", {"file": name, "error": f"{type(problem).__name__}: {problem}"})
        return
    totals.files += 1
    totals.definitions.update(found)
    run.log_event("file indexed", {"file": name, **found})


def files_below(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder in alphabetical order, without the skipped folders."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            if path.name not in SKIPPED_FOLDERS and not path.name.endswith(".egg-info"):
                yield from files_below(path)
        elif path.is_file() or path.is_symlink():
            yield path


def index_folder(client: TelemetryClient, folder: Path, root: Path) -> IndexTotals:
    """Index one sub-folder as a child run."""
    totals = IndexTotals()
    name = str(folder.relative_to(root))
    with client.track_run(AGENT, "index folder", item_name=name, input_summary=f"sources below {name}") as run:
        for path in files_below(folder):
            index_file(path, root, run, totals)
        finish(run, totals)
    return totals


def finish(run: RunContext, totals: IndexTotals) -> None:
    """Set the results of the run."""
    total = sum(totals.definitions.values())
    run.set_metrics(
        **totals.items(),
        metrics_json=dict(totals.definitions),
        output_summary=f"{total} definitions in {totals.files} files",
        **({"status": "partial", "error_summary": f"{totals.failed} files failed"} if totals.failed else {}),
    )


def index(client: TelemetryClient, root: Path) -> IndexTotals:
    """Index a folder as one run, with a child run for each folder directly below."""
    totals = IndexTotals()
    with client.track_run(AGENT, "index tree", source_ref=str(root), input_summary=f"sources below {root.name}") as run:
        for path in sorted(root.iterdir()):
            if path.is_dir() and not path.is_symlink():
                if path.name not in SKIPPED_FOLDERS and not path.name.endswith(".egg-info"):
                    totals.add(index_folder(client, path, root))
            else:
                index_file(path, root, run, totals)
        finish(run, totals)
        print(f"run {run.run_id}: {totals.files} files, {dict(totals.definitions)}, {totals.failed} failed")
    return totals


def main() -> int:
    """Index the folder named on the command line. Return 1 if a file failed."""
    parser = argparse.ArgumentParser(description="Index the definitions in a folder of source files.")
    parser.add_argument("folder", type=Path)
    root = parser.parse_args().folder.resolve()
    return 1 if index(TelemetryClient(), root).failed else 0


if __name__ == "__main__":
    sys.exit(main())
