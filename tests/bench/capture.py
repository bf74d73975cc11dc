"""`make bench`: what an entry costs in a small and in a huge file, and what the decorator adds to a call."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from otel_agent_telemetry import TelemetryCapture, capture_telemetry
from otel_agent_telemetry.capture.array_file import ArrayFile
from tests.bench.pairs import Ratio, each, in_pairs
from tests.bench.records import config_in

FEW = 10
MANY = int(os.environ.get("BENCH_ENTRIES", "1000000"))
_LIMIT = 1 << 30
_ENTRY = (
    b'{"timestamp":"2025-10-24T14:30:45.123456+00:00","skill":"plugin.build","status":"success","duration_ms":320.5,'
    b'"caller":"CLI","inputs":{"plugin_path":"./plugin.yaml"},"error_message":null,"metadata":{},"run_id":"%016d"}'
)


def filled(path: Path, entries: int) -> Path:
    """An array file with so many entries, in the form in which they are written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(b"[\n" + _ENTRY % 0)
        for number in range(1, entries):
            file.write(b",\n" + _ENTRY % number)
        file.write(b"\n]\n")
    return path


def ratios(folder: Path) -> Iterator[Ratio]:
    """One entry in a file of a million against one in a file of ten; a captured call against a bare one."""
    few, many = filled(folder / "few.json", FEW), filled(folder / "many.json", MANY)
    small, large = ArrayFile(few, max_bytes=_LIMIT), ArrayFile(many, max_bytes=_LIMIT)
    yield in_pairs(
        f"adding to the file, {MANY:,} entries / {FEW}",
        goal=1.5,
        ours=lambda: each(lambda: large.append(_ENTRY % 1), 200),
        theirs=lambda: each(lambda: small.append(_ENTRY % 1), 200),
    )
    config = config_in(folder / "base").with_(capture_max_bytes=_LIMIT)
    into_many, into_few = TelemetryCapture(many, config=config), TelemetryCapture(few, config=config)

    def capture(into: TelemetryCapture) -> list[int]:
        taken = each(lambda: into.capture("skill", "success", 1.5, "CLI", {"path": "./plugin.yaml"}), 100)
        into.client.flush(30.0)
        return taken

    yield in_pairs(
        f"capture(), {MANY:,} entries / {FEW}",
        goal=1.5,
        ours=lambda: capture(into_many),
        theirs=lambda: capture(into_few),
    )
    yield in_pairs(
        f"query(limit=10), {MANY:,} entries / {FEW}",
        goal=1.5,
        ours=lambda: each(lambda: into_many.query(limit=10), 50),
        theirs=lambda: each(lambda: into_few.query(limit=10), 50),
    )
    yield from decorated(into_few)


def decorated(into: TelemetryCapture) -> Iterator[Ratio]:
    """What a call costs with the decorator, beside the bare call; there is no goal but the figure."""

    def work(path: str, depth: int = 3) -> str:
        return path

    plain = capture_telemetry(capture=into)(work)
    with_inputs = capture_telemetry(capture=into, capture_inputs=True)(work)

    def calls(function: object) -> list[int]:
        taken = each(lambda: function("./plugin.yaml"), 100)  # type: ignore[operator]
        into.client.flush(30.0)
        return taken

    for name, function in (("captured", plain), ("captured with inputs", with_inputs)):
        yield in_pairs(
            f"a call {name} / bare",
            goal=None,
            ours=lambda function=function: calls(function),
            theirs=lambda: calls(work),
        )
    client = into.client

    def tracked() -> None:
        with client.track_run("skill", "capture"):
            work("./plugin.yaml")

    yield in_pairs(
        "a call captured with inputs / track_run around it",
        goal=None,
        ours=lambda: calls(with_inputs),
        theirs=lambda: calls(lambda _: tracked()),
    )


def main() -> None:
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        for ratio in ratios(Path(scratch)):
            print(ratio.line(), flush=True)


if __name__ == "__main__":
    main()
