"""`python tests/bench/run_page.py`: what the page of a run with 10,000 steps in 200 levels costs, beside one of 10 steps.

Part of `make bench`. A service in a process of its own over a SQLite file; shown is the time from a request to the
first bytes of its response over loopback, and beside it that to the last.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from time import perf_counter_ns
from typing import Final

import httpx

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.bench.pairs import HTTP, Row, at, goal_text, verdict_of
from tests.bench.service import Service, service
from tests.page.run_lines import NDJSON, PATH, chain, ended_run

STEPS: Final = 10_000
LEVELS: Final = 200
GOAL_MS: Final = 100
ROUNDS: Final = 15
PAGES: Final = {
    "overview": "",
    "all levels": "?level=1000000",
    "the last rows": f"?level=1000000&skip={STEPS - 500}",
    "failed steps": "?only=errors",
    "a step by its name": "?find=step+77",
}
"""What is asked for, and the end of its address."""


def main() -> None:
    """Store the run and print a row for each page."""
    with tempfile.TemporaryDirectory() as scratch, service(Path(scratch)) as ours:
        with httpx.Client(base_url=ours.url, timeout=120) as client:
            lines = [ended_run(), *chain(LEVELS, STEPS // LEVELS)]
            for start in range(0, len(lines), 5_000):
                body = b"".join(lines[start : start + 5_000])
                client.post("/api/v1/records", content=body, headers=NDJSON).raise_for_status()
            for name, query in PAGES.items():
                print(_row(ours, client, name, query), flush=True)


def _row(ours: Service, client: httpx.Client, name: str, query: str) -> str:
    """Return the line of one page; what the service itself needs is beside it, because a busy machine makes both wait."""

    def first_and_last_ms() -> tuple[float, float]:
        began = perf_counter_ns()
        with client.stream("GET", f"{PATH}{query}") as answer:
            chunks = answer.raise_for_status().iter_raw()
            next(chunks)
            first = perf_counter_ns() - began
            for _ in chunks:
                pass
        return first / 1e6, (perf_counter_ns() - began) / 1e6

    first_and_last_ms()
    cpu = ours.cpu_seconds()
    taken_ms, whole_ms = zip(*(first_and_last_ms() for _ in range(ROUNDS)), strict=True)
    cpu_ms = (ours.cpu_seconds() - cpu) * 1000 / ROUNDS
    median = at(taken_ms, 0.5)
    return Row(
        f"page of a run of {STEPS:,} steps and {LEVELS} levels: {name}",
        HTTP,
        f"{median:.0f} ms",
        f"{at(taken_ms, 0.99):.0f} ms",
        goal_text(GOAL_MS, at_least=False, unit=" ms"),
        verdict_of(median, GOAL_MS, at_least=False),
        f"the last byte {at(whole_ms, 0.5):.0f} ms, fastest {min(whole_ms):.0f}; CPU of the service {cpu_ms:.0f} ms",
    ).line()


if __name__ == "__main__":
    main()
