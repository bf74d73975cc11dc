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
from typing import Any

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
        client.start_run("crash-test", "work", run_id=run_id, **some_columns(dice))
        tell(out, f"a start {run_id}")
        for event in range(dice.randrange(4)):
            filler = "é" * dice.randrange(1500)
            tell(out, f"i event {run_id} {event}")
            payload = {"n": event, "filler": filler, "crc": zlib.crc32(filler.encode()), **dice.choice(MORE)}
            client.log_event(run_id, "step", payload)
            tell(out, f"a event {run_id} {event}")
        if dice.random() < 0.1:
            continue
        tell(out, f"i end {run_id}")
        client.end_run(run_id, "success", items_succeeded=number)
        tell(out, f"a end {run_id}")


MORE = ({}, {}, {"nested": {"list": [1, None, "two"]}}, {"note": "token=of-no-use-to-anyone"})
"""What an event holds besides: nothing, or what is not plain and is written the long way."""


def some_columns(dice: random.Random) -> dict[str, Any]:
    """Return plain columns, or some that are encoded the long way."""
    plain = {"input_summary": "x" * dice.randrange(200)}
    return dice.choice((plain, plain, {**plain, "context_json": {"of": ["any", "type"]}}, {**plain, "extra": {"a": 1}}))


def tell(out: int, line: str) -> None:
    """One line on the pipe; it is in the kernel when this returns."""
    os.write(out, line.encode() + b"\n")


if __name__ == "__main__":
    base, name, seed, runs = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    work(TelemetryClient(config_for(base)), 1, name=name, seed=seed, runs=runs)
