"""An agent that does real work: it indexes the definitions in a folder of source files.

    python examples/indexing_agent.py FOLDER

It walks the folder, parses each source file and counts its functions and classes. The whole
is one run; every sub-folder directly below is a child run; every file is an event. Files
that cannot be read or parsed are errors of their run, which then ends `partial`.
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

from otel_agent_telemetry import TelemetryClient
from otel_agent_telemetry.run_context import RunContext

AGENT = "indexing_agent"
SKIPPED_FOLDERS = {".git", ".venv", "node_modules", "__pycache__", ".demo", "build", "dist"}
PATTERNS = {
    ".go": re.compile(r"^func\s+(?:\([^)]*\)\s*)?(\w+)|^type\s+(\w+)", re.MULTILINE),
    ".js": re.compile(r"^\s*(?:export\s+)?(?:async\s+)?(?:function|class)\s+(\w+)", re.MULTILINE),
    ".sh": re.compile(r"^\s*(?:function\s+)?(\w+)\s*\(\)", re.MULTILINE),
}
SUFFIXES = {".py", *PATTERNS}


@dataclass
class Tally:
    """What was found below one folder."""

    files: int = 0
    failed: int = 0
    skipped: int = 0
    definitions: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Take another folder's numbers in."""
        self.files += other.files
        self.failed += other.failed
        self.skipped += other.skipped
        self.definitions.update(other.definitions)

    def items(self) -> dict[str, int]:
        """The run's item counts."""
        return {
            "items_discovered": self.files + self.failed + self.skipped,
            "items_succeeded": self.files,
            "items_failed": self.failed,
            "items_skipped": self.skipped,
        }


def definitions_in(path: Path) -> Counter[str]:
    """How many functions and classes a source file defines. Raises OSError, SyntaxError, ValueError."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return Counter({"definitions": len(PATTERNS[path.suffix].findall(text))})
    kinds = {ast.FunctionDef: "functions", ast.AsyncFunctionDef: "functions", ast.ClassDef: "classes"}
    return Counter(kinds[type(node)] for node in ast.walk(ast.parse(text)) if type(node) in kinds)


def index_file(path: Path, root: Path, run: RunContext, tally: Tally) -> None:
    """Index one file into the tally; what goes wrong is an event, not an end."""
    name = str(path.relative_to(root))
    if path.suffix not in SUFFIXES:
        tally.skipped += 1
        return
    try:
        found = definitions_in(path)
    except (OSError, SyntaxError, ValueError) as problem:
        tally.failed += 1
        run.log_event("error", {"file": name, "error": f"{type(problem).__name__}: {problem}"})
        return
    tally.files += 1
    tally.definitions.update(found)
    run.log_event("file indexed", {"file": name, **found})


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below a folder, in order, without what is not source."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            if path.name not in SKIPPED_FOLDERS and not path.name.endswith(".egg-info"):
                yield from files_below(path)
        elif path.is_file() or path.is_symlink():
            yield path


def index_folder(client: TelemetryClient, folder: Path, root: Path) -> Tally:
    """Index one sub-folder as a run of its own."""
    tally = Tally()
    name = str(folder.relative_to(root))
    with client.track_run(AGENT, "index folder", item_name=name, input_summary=f"sources below {name}") as run:
        for path in files_below(folder):
            index_file(path, root, run, tally)
        finish(run, tally)
    return tally


def finish(run: RunContext, tally: Tally) -> None:
    """Tell what came of the run."""
    total = sum(tally.definitions.values())
    run.set_metrics(
        **tally.items(),
        metrics_json=dict(tally.definitions),
        output_summary=f"{total} definitions in {tally.files} files",
        **({"status": "partial", "error_summary": f"{tally.failed} files failed"} if tally.failed else {}),
    )


def index(client: TelemetryClient, root: Path) -> Tally:
    """Index a whole folder: one run, with a child run for each folder directly below."""
    tally = Tally()
    with client.track_run(AGENT, "index tree", source_ref=str(root), input_summary=f"sources below {root.name}") as run:
        for path in sorted(root.iterdir()):
            if path.is_dir() and not path.is_symlink():
                if path.name not in SKIPPED_FOLDERS and not path.name.endswith(".egg-info"):
                    tally.add(index_folder(client, path, root))
            else:
                index_file(path, root, run, tally)
        finish(run, tally)
        print(f"run {run.run_id}: {tally.files} files, {dict(tally.definitions)}, {tally.failed} failed")
    return tally


def main() -> int:
    """Index the folder named on the command line; exit 1 when files failed."""
    parser = argparse.ArgumentParser(description="Index the definitions in a folder of source files.")
    parser.add_argument("folder", type=Path)
    root = parser.parse_args().folder.resolve()
    return 1 if index(TelemetryClient(), root).failed else 0


if __name__ == "__main__":
    sys.exit(main())
