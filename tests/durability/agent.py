"""The writing process of the killing tests: runs, events and ends without pause.

What it is about to do (`i`), and what has returned (`a`), it tells on a pipe, one line a
step, so that the test knows what was issued and what was acknowledged when it dies:

    i start RUN    a start RUN    i event RUN N    a event RUN N    i end RUN    a end RUN
"""

from __future__ import annotations

import os
import random
import sys
import zlib
from pathlib import Path

from otel_agent_telemetry import TelemetryClient, TelemetryConfig


def config_for(base: Path, **settings: object) -> TelemetryConfig:
    """Small segments, so that kills meet rotations; no service is looked for."""
    return TelemetryConfig(base_dir=base, segment_bytes=8192, discover_service=False).with_(**settings)


def work(client: TelemetryClient, out: int, *, name: str, seed: int, runs: int = 1_000_000) -> None:
    """Make runs until killed: a start, some events, an end (one in ten is left open)."""
    dice = random.Random(seed)
    for number in range(runs):
        run_id = f"{name}-{number}"
        tell(out, f"i start {run_id}")
        client.start_run("crash-test", "work", run_id=run_id, input_summary="x" * dice.randrange(200))
        tell(out, f"a start {run_id}")
        for event in range(dice.randrange(4)):
            filler = "é" * dice.randrange(1500)
            tell(out, f"i event {run_id} {event}")
            client.log_event(run_id, "step", {"n": event, "filler": filler, "crc": zlib.crc32(filler.encode())})
            tell(out, f"a event {run_id} {event}")
        if dice.random() < 0.1:
            continue
        tell(out, f"i end {run_id}")
        client.end_run(run_id, "success", items_succeeded=number)
        tell(out, f"a end {run_id}")


def tell(out: int, line: str) -> None:
    """One line on the pipe; it is in the kernel when this returns."""
    os.write(out, line.encode() + b"\n")


if __name__ == "__main__":
    base, name, seed, runs = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    work(TelemetryClient(config_for(base)), 1, name=name, seed=seed, runs=runs)
