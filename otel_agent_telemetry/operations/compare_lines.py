"""Comparing the events and steps of this host's journal with a service, for `verify`.

Compared are ranges of the numbers of each writer (`storage.line_digests`). A range that differs is
halved several times over until the lines are found that the service lacks, or has with another
content; one of which the service has nothing is missing as a whole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from otel_agent_telemetry.operations.line_ledger import LineLedger
from otel_agent_telemetry.operations.remote_runs import RemoteRuns
from otel_agent_telemetry.storage.line_digests import MAX_NUMBERS, MAX_RANGES, LineDigest, LineRange

_PARTS: Final = 16
_MAX_FOUND: Final = 1_000
"""Ranges with a difference after which no more are looked for."""


@dataclass(slots=True)
class LineComparison:
    """What was found: ranges of which the service lacks every line, and single lines that it has otherwise."""

    missing: list[LineRange] = field(default_factory=list)
    altered: list[LineRange] = field(default_factory=list)
    is_cut_short: bool = False
    """Whether so much differs that the search was ended."""

    def note(self, wanted: LineRange, here: LineDigest, there: LineDigest) -> list[LineRange]:
        """Note a range that differs and need not be looked at again; return the parts of any other."""
        if not here.events + here.steps:  # the service alone has something, of a line that the journal has lost
            return []
        if not there.events + there.steps:
            self.missing.append(wanted)
        elif wanted.first == wanted.last:
            self.altered.append(wanted)
        else:
            return list(_parts(wanted))
        return []


def compare_lines(ledger: LineLedger, remote: RemoteRuns, *, since: str) -> LineComparison | None:
    """Return how the service's lines differ from the ledger's; None from a service without this call.

    `since`: lines of an earlier time are not compared. Blocks for a request for each 50,000 lines, and
    more where something differs. Raises as the methods of `RemoteRuns` do.
    """
    found, waiting = LineComparison(), deque(ledger.ranges())
    while waiting:
        if len(found.missing) + len(found.altered) >= _MAX_FOUND:
            found.is_cut_short = True
            break
        asked = list(_request_of(waiting))
        answer = remote.line_digests(asked, since=since)
        if answer is None:
            return None
        for wanted, there in zip(asked, answer, strict=True):
            here = ledger.digest(wanted)
            if here != there:
                waiting += found.note(wanted, here, there)
    return found


def _request_of(waiting: deque[LineRange]) -> Iterator[LineRange]:
    """Take the ranges of one request from those that wait, at least one."""
    numbers = 0
    for _ in range(MAX_RANGES):
        if not waiting:
            return
        numbers += waiting[0].last - waiting[0].first + 1
        if numbers > MAX_NUMBERS:
            return
        yield waiting.popleft()


def _parts(wanted: LineRange) -> Iterator[LineRange]:
    """Yield the parts of a range, at most sixteen."""
    step = -(-(wanted.last - wanted.first + 1) // _PARTS)
    for start in range(wanted.first, wanted.last + 1, step):
        yield LineRange(wanted.writer, start, min(start + step - 1, wanted.last))
