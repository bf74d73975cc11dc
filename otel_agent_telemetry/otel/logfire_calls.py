"""Logfire calls processors with instrumentation suppressed, so that they make no spans of their own.

That says nothing about the span that starts: where the application itself suppresses
instrumentation, Logfire starts none. A processor among `additional_span_processors` must tell
the two apart.
"""

from __future__ import annotations

import sys
from typing import Final

_WRAPPER: Final = "logfire._internal.exporters.processor_wrapper"
_MAX_FRAMES: Final = 12


def is_called_by_logfire() -> bool:
    """Return whether Logfire's wrapper around processors is among the callers. For the rare suppressed call only."""
    if _WRAPPER not in sys.modules:
        return False
    frame = sys._getframe(1)  # noqa: SLF001 - documented, and `inspect` costs an import
    for _ in range(_MAX_FRAMES):
        if frame.f_globals.get("__name__") == _WRAPPER:
            return True
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False
