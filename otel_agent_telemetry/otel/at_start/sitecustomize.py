"""Imported by Python's `site` before the program, because this folder stands first on `PYTHONPATH`.

`agent-telemetry instrument` puts it there, for the program and for the Python processes that it
starts. Another interpreter among them may lack this package, or be older than it: what runs here
before the package is imported is understood by any Python 3, and nothing here stops the program.
"""

import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib takes time that every child pays


def _import_the_next() -> None:
    """Import the `sitecustomize` that this one stands before: an application's or a distribution's own."""
    sys.path[:] = [path for path in sys.path if os.path.abspath(path or os.curdir) != _HERE]  # noqa: PTH100
    ours = sys.modules.pop("sitecustomize")
    try:
        __import__("sitecustomize")
    except ImportError as problem:
        if getattr(problem, "name", None) != "sitecustomize":
            raise  # as `site` does, which prints it and goes on
    finally:
        sys.modules.setdefault("sitecustomize", ours)  # the import system looks for it once more


def _record() -> None:
    """Record the runs of this program."""
    try:
        from otel_agent_telemetry.otel.instrumentations import instrument_all
    except ImportError as problem:
        if str(getattr(problem, "name", None)).partition(".")[0] == "otel_agent_telemetry":
            return  # another interpreter, into which the package is not installed
        sys.stderr.write("agent runs are not recorded: %s\n" % (problem,))  # noqa: UP031
    else:
        instrument_all()


try:
    _import_the_next()
finally:
    _record()
