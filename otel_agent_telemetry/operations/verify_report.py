"""What `verify` found: numbers, lines and runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

from otel_agent_telemetry.operations.line_ledger import LineName
from otel_agent_telemetry.operations.odd_lines import OddLine
from otel_agent_telemetry.operations.run_ledger import FINDINGS, RunName
from otel_agent_telemetry.operations.sequence_ledger import Gap
from otel_agent_telemetry.storage.deliverers import Deliverer

NOTES: Final = frozenset({"ahead", "unjournalled"})
"""Findings that can be expected; they alone do not make a report fail."""
LINE_FINDINGS: Final = ("missing", "altered", "refused")
"""Findings about events and steps, which are compared with a service."""


@dataclass(slots=True, kw_only=True)
class VerifyReport:
    """What was compared and what differs. Lists have the first few runs, counts cover all.

    `torn`: day file → torn lines. `odd_lines`: the first torn and repeated lines.
    `missing`: in the journal, neither stored nor waiting. `refused`: the same, but the target
    rejected it. `older`: the database has an older state. `altered`: it has the same state with
    other content; `columns` has those that differ. `twice`: two runs have one `event_id`.
    `ahead`: the database has a later state (a service's PATCH, or the journal lost its end).
    `undeleted`: stored although it was deleted. `unjournalled`: in the database only (another
    host, an upgrade). `deleted`: runs of the journal that were deleted one by one.
    `hosts`: the deliverers that a service with this database has heard of.
    `compared_with`: the database, or the service that the runs go to. `not_compared`: why that
    could not be read, "" when it was.
    `lines_compared`: events and steps that a service has confirmed and were compared with it; with
    `lines_cut_short`, so many differ that not all were looked for. `line_counts` and `line_findings`:
    those that it lacks (`missing`), has with other content (`altered`), or has `refused` for good.
    """

    lines: int = 0
    writers: int = 0
    journalled: int = 0
    waiting: int = 0
    stored: int = 0
    deleted: int = 0
    missing_lines: int = 0
    repeated_lines: int = 0
    gaps: list[Gap] = field(default_factory=list)
    torn: dict[str, int] = field(default_factory=dict)
    odd_lines: list[OddLine] = field(default_factory=list)
    columns: dict[str, list[str]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FINDINGS, 0))
    runs: dict[str, list[RunName]] = field(default_factory=lambda: {name: [] for name in FINDINGS})
    hosts: list[Deliverer] = field(default_factory=list)
    compared_with: str = ""
    not_compared: str = ""
    lines_compared: int = 0
    lines_cut_short: bool = False
    line_counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LINE_FINDINGS, 0))
    line_findings: dict[str, list[LineName]] = field(default_factory=lambda: {name: [] for name in LINE_FINDINGS})

    @property
    def ok(self) -> bool:
        """Return whether nothing wrong was found; something may not have been compared."""
        problems = sum(number for name, number in self.counts.items() if name not in NOTES)
        problems += sum(self.line_counts.values())
        return not (self.missing_lines or self.repeated_lines or self.torn or problems)


def report_object(report: VerifyReport) -> dict[str, Any]:
    """Return the report as an object for `--json`."""
    names = (
        *("lines", "writers", "journalled", "waiting", "stored", "deleted", "missing_lines", "repeated_lines"),
        *("torn", "compared_with", "not_compared", "lines_compared", "lines_cut_short"),
    )
    return {
        "ok": report.ok,
        **{name: getattr(report, name) for name in names},
        "odd_lines": [asdict(line) for line in report.odd_lines],
        "columns": report.columns,
        "gaps": [{"writer": gap.writer, "first": gap.first, "last": gap.last} for gap in report.gaps],
        "events_and_steps": {
            name: {"count": number, "lines": [line._asdict() for line in report.line_findings[name]]}
            for name, number in report.line_counts.items()
        },
        "hosts": [asdict(host) for host in report.hosts],
        **{
            name: {"count": report.counts[name], "runs": [_run_object(run) for run in report.runs[name]]}
            for name in FINDINGS
        },
    }


def _run_object(run: RunName) -> dict[str, str]:
    """Return a run of a finding as an object for `--json`."""
    return {"event_id": run.event_id, "run_id": run.run_id}
