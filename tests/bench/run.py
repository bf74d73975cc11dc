"""`make bench`: what recording costs, each row in alternating pairs within this one run.

Absolute times drift with the machine and are shown for orientation; the ratios are the
result. Exits 0 whatever they are: a goal is to be watched, not a test. `BENCH_BACKLOG` is the
number of records that are drained (100,000); `BENCH_FAST=1` makes each row short, to see that
it can be measured. A run is one of `workloads`.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from otel_agent_telemetry import TelemetryConfig
from tests.bench import backlog, caller, processes, programs
from tests.bench.pairs import HEADER, HTTP, Curve, Ratio, Row
from tests.bench.receiver import receiver
from tests.bench.records import config_in
from tests.bench.service import service

Line = Ratio | Row | Curve


def rows(folder: Path, endpoint: str) -> Iterator[Line]:
    """Yield the table, from the caller's thread to the disk."""
    yield from caller.run_rows(config_in(folder / "runs"), endpoint)
    yield from caller.event_rows(config_in(folder / "events"))
    yield from processes.cpu_rows(lambda number: _settings(folder / f"cpu-{number}"), endpoint)
    yield from service_rows(folder / "service", endpoint)
    yield from caller.attribute_rows(config_in(folder / "attributes"), endpoint)
    yield from caller.many_event_rows(config_in(folder / "many-events"), endpoint)
    yield from caller.open_run_rows(lambda name: config_in(folder / name))
    yield from programs.program_rows(config_in(folder / "programs"), endpoint)
    yield processes.import_row()
    yield processes.exit_row(folder / "exit")
    yield backlog.upsert_ratio(folder / "upsert")
    yield from backlog.drain_rows(folder / "backlog")


def service_rows(folder: Path, endpoint: str) -> Iterator[Line]:
    """Yield what a run costs that goes to a service over HTTP."""
    with service(folder / "server") as running:
        client_side = folder / "client"
        yield caller.service_row(TelemetryConfig(base_dir=client_side, api_url=running.url), endpoint)
        yield from processes.cpu_rows(
            lambda number: _settings(folder / f"cpu-{number}") | {"TELEMETRY_API_URL": running.url},
            endpoint,
            target=HTTP,
        )


def _settings(base: Path) -> dict[str, str]:
    return {"TELEMETRY_BASE_DIR": str(base), "TELEMETRY_DISCOVER_SERVICE": "false"}


def show(table: Iterable[Line]) -> None:
    """Print rows as they are measured."""
    print(HEADER.line())
    for row in table:
        print(row.line(), flush=True)


def main() -> None:
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch, receiver() as endpoint:
        show(rows(Path(scratch), endpoint))


if __name__ == "__main__":
    main()
