"""What a program is called that sets no `service.name`: its script or module.

OpenTelemetry calls every such program `unknown_service:python`, so that all of them would be one agent.
"""

from __future__ import annotations

import functools
import sys
from pathlib import PurePath
from typing import Final

_NOT_SCRIPTS: Final = ("", "-", "-c")
_MODULE: Final = "-m"
_MAIN: Final = "__main__"


@functools.cache
def program_name() -> str | None:
    """Return the name of the script or module that this process runs; None for `python -c` and a prompt.

    `report` for `python jobs/report.py` and `python -m jobs.report`, `jobs` for `python -m jobs`. Looked up once
    a process: programs change `sys.argv` for themselves.
    """
    arguments = getattr(sys, "argv", [])
    script = arguments[0] if arguments else ""
    if not isinstance(script, str) or script in _NOT_SCRIPTS:
        return None
    if script == _MODULE:
        return _module_name(len(arguments))
    path = PurePath(script)
    # A package is run as `package/__main__.py`.
    return (path.parent.name if path.stem == _MAIN else path.stem) or None


def _module_name(arguments: int) -> str | None:
    """Return the last part of the module's name while Python has not found its file, as in a `sitecustomize`."""
    # The module stands before the program's arguments; `-m` takes its place among these meanwhile.
    word = sys.orig_argv[len(sys.orig_argv) - arguments]
    return word.removeprefix(_MODULE).removesuffix(f".{_MAIN}").rpartition(".")[2] or None
