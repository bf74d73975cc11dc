"""Instrumentations of libraries that are installed beside this package: switched on without OpenTelemetry's command.

    agent-telemetry instrument ─► PYTHONPATH ─► at_start/sitecustomize.py ─► instrument_all() ─► the program

An instrumentation is an entry point in the group `opentelemetry_instrumentor`. Those of libraries that are
missing here, or too old for them, are left out, as `opentelemetry-instrument` does.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from otel_agent_telemetry.config import process_environment
from otel_agent_telemetry.interpreter import importing
from otel_agent_telemetry.otel.instrument import instrument

_log = logging.getLogger(__name__)
_GROUP: Final = "opentelemetry_instrumentor"
_OURS: Final = "agent_runs"
_DISABLED: Final = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"


def instrument_all() -> None:
    """Record the runs of this process, and those that the installed instrumentations make spans for.

    `OTEL_PYTHON_DISABLED_INSTRUMENTATIONS` names those that are left out, separated by commas, or `*` for all.
    Never raises. Takes as long as the libraries take to import that are instrumented.
    """
    if not instrument():
        return
    for entry in _wanted():
        try:
            if not _lacks_its_library(entry):
                entry.load()().instrument()
        except Exception as problem:  # one that is broken costs its own spans, neither the program nor the others
            _log.warning("%s is not instrumented: %s: %s", entry.name, type(problem).__name__, problem)


def _wanted() -> Iterator[EntryPoint]:
    """Yield the instrumentations that are installed and not disabled, by name."""
    disabled = {name.strip() for name in process_environment().get(_DISABLED, "").split(",")} | {_OURS}
    if "*" not in disabled:
        # In order of their names: what is instrumented first must not depend on the file system.
        found = {entry.name: entry for entry in entry_points(group=_GROUP)}  # of two of one name, one
        yield from (found[name] for name in sorted(found) if name not in disabled)


def _lacks_its_library(entry: EntryPoint) -> bool:
    """Return whether the library that it instruments is missing, or of another version than it asks for."""
    try:
        with importing():
            from opentelemetry.instrumentation.dependencies import get_dist_dependency_conflicts
    except ImportError:  # it comes with any of OpenTelemetry's instrumentations; others look for themselves
        return False
    conflict = None if entry.dist is None else get_dist_dependency_conflicts(entry.dist)
    if conflict:
        _log.debug("%s is not instrumented: %s", entry.name, conflict)
    return bool(conflict)
