"""Gather what the site of the documentation is made of, each file where it is in the repository, so that links hold.

Called as `python scripts/site_source.py build/site-source`.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDERS: Final = ("docs", "collector-config", "examples")
PAGES: Final = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")


def main() -> None:
    """Copy pages and folders into the folder named on the command line, which is made anew."""
    target = Path(sys.argv[1])
    shutil.rmtree(target, ignore_errors=True)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in PAGES:
        shutil.copy(ROOT / name, target / name)


if __name__ == "__main__":
    main()
