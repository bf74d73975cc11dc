"""Counts of the attributes that were left out of what is stored: by name, bounded.

A run's row names them in `context_json`: those of its own span, of its steps and of its events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from otel_agent_telemetry.recording.active_runs import ActiveRun

NOTHING: Final[Mapping[str, int]] = MappingProxyType({})
_MAX_NAME: Final = 128
_MAX_KEY: Final = 256
_MAX_NAMES: Final = 256
_REST: Final = "…"
_MAX_PARTS: Final = 256


def counted_name(name: object) -> str:
    """Return the name that is counted: that of an item of a list without its number, of a bounded length."""
    return _counted(name[:_MAX_KEY] if type(name) is str else str(name)[:_MAX_KEY])


@lru_cache(maxsize=4_096)
def _counted(name: str) -> str:
    """Return the name under which what is left out is counted: without numbers of items."""
    return ".".join("*" if part.isdecimal() else part for part in name.split("."))[:_MAX_NAME]


def count(counts: MutableMapping[str, int], name: object, times: int = 1) -> None:
    """Add to the count of a name; past 256 names the others are counted together."""
    text = counted_name(name)
    if text not in counts and len(counts) >= _MAX_NAMES:
        text = _REST
    counts[text] = counts.get(text, 0) + times


def count_names(found: Iterable[object]) -> dict[str, int]:
    """Return how often each name comes."""
    counts: dict[str, int] = {}
    for name in found:
        count(counts, name)
    return counts


def sum_of(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the counts of several together, by name."""
    counts: dict[str, int] = {}
    for part in parts:
        for name, times in part.items():
            count(counts, name, times)
    return dict(sorted(counts.items()))


def note_left_out(run: ActiveRun, left_out: Mapping[str, int]) -> None:
    """Count what was left out of a step or an event of an open run; from any thread, without a lock.

    The run's columns are made again for its next state (`ActiveRun.has_left_out`).
    """
    if not left_out or run.ended:
        return
    parts = run.left_out
    parts.append(left_out)
    if len(parts) > _MAX_PARTS:
        parts.append(sum_of(_taken(parts)))
    run.has_left_out = True


def left_out_of(run: ActiveRun) -> Iterable[Mapping[str, int]]:
    """Return the parts that were noted for a run: a copy, because other threads add to them."""
    return run.left_out[:]


def _taken(parts: list[Mapping[str, int]]) -> Iterable[Mapping[str, int]]:
    """Take parts off: each is one step of the interpreter, so that no part is counted twice."""
    for _ in range(_MAX_PARTS):
        try:
            yield parts.pop()
        except IndexError:  # another thread takes them too
            return
