"""Draining what has piled up, beside writing the same states straight into the store; and batches of the store alone.

`python tests/bench/backlog.py drain|store FOLDER RECORDS` is one measured process: its peak memory is its own.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from otel_agent_telemetry.buffer.identity import WriterIdentity
from otel_agent_telemetry.buffer.layout import drain_lock_path
from otel_agent_telemetry.buffer.writer import BufferWriter
from otel_agent_telemetry.delivery.deliverer import Deliverer
from otel_agent_telemetry.delivery.outcome import Batch, Delivered
from otel_agent_telemetry.delivery.sqlite_target import SqliteTarget
from otel_agent_telemetry.locks import FileLock
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.recording.recorder import Recorder
from otel_agent_telemetry.storage.sqlite_file import open_sqlite
from otel_agent_telemetry.wire import encode_line
from tests.bench.pairs import FAST, SQLITE, Ratio, Row, at, goal_text, measured, verdict_of
from tests.bench.records import config_in, process_environment, some_records

BACKLOG = int(os.environ.get("BENCH_BACKLOG", "2000" if FAST else "100000"))
PAIRS = 1 if FAST or BACKLOG > 300_000 else 3
FIRST_RECORDS = min(10_000, BACKLOG // 2)
BATCH = 500
RATE_GOAL = 0.8
MEMORY_GOAL_MB = 20.0


def upsert_ratio(folder: Path) -> Ratio:
    """Return the speed of batches of 100 through the upsert of a recording process, of plain `executemany` being 1."""
    open_sqlite(config_in(folder / "plain")).close()
    connection = sqlite3.connect(folder / "plain" / "db" / "telemetry.sqlite")
    connection.execute("pragma journal_mode=delete")
    connection.execute("pragma synchronous=full")
    columns = list(RunRecord.__dataclass_fields__)
    statement = f"insert into agent_runs ({','.join(columns)}) values ({','.join('?' * len(columns))})"
    target = SqliteTarget(config_in(folder / "ours"))

    def through_target() -> int:
        batch = Batch.of(some_records(100))
        began = perf_counter_ns()
        assert isinstance(target.deliver(batch), Delivered)
        return perf_counter_ns() - began

    def through_executemany() -> int:
        rows = [tuple(getattr(record, name) for name in columns) for record in some_records(100)]
        began = perf_counter_ns()
        with connection:
            connection.executemany(statement, rows)
        return perf_counter_ns() - began

    ratio = measured(
        lambda: [through_executemany() for _ in range(5)],
        lambda: [through_target() for _ in range(5)],
    ).ratio("executemany / our upsert, batches of 100 (speed, 1 is equal)", goal=0.5, goal_is_minimum=True)
    target.close()
    connection.close()
    return ratio


def drain_rows(folder: Path) -> Iterator[Row]:
    """Yield the rate of draining a backlog beside the store alone, and the memory that it takes."""
    pairs = [(_in_process("drain", folder / f"d{n}"), _in_process("store", folder / f"s{n}")) for n in range(PAIRS)]
    speeds = [store["seconds"] / drain["seconds"] for drain, store in pairs]
    slowest = [store["batch_p99_ns"] / drain["batch_p99_ns"] for drain, store in pairs]
    drains = [drain for drain, _ in pairs]
    rates = [median(BACKLOG / column["seconds"] for column in side) for side in zip(*pairs, strict=True)]
    yield Row(
        f"drain of {BACKLOG:,} records / the store alone (speed, 1 is equal)",
        SQLITE,
        f"x{median(speeds):.2f}",
        f"x{median(slowest):.2f}",
        goal_text(RATE_GOAL, at_least=True),
        verdict_of(median(speeds), RATE_GOAL, at_least=True),
        f"{rates[0]:,.0f}, {rates[1]:,.0f} records/s; p99 is of batches of {BATCH}",
    )
    grown = [(drain["last_kib"] - drain["first_kib"]) / 1024 for drain in drains]
    yield Row(
        f"peak memory at the end of that drain - at {FIRST_RECORDS:,} records",
        SQLITE,
        f"{median(grown):.1f} MB",
        f"{max(grown):.1f} MB",
        goal_text(MEMORY_GOAL_MB, unit=" MB"),
        verdict_of(median(grown), MEMORY_GOAL_MB),
        f"{drains[0]['first_kib'] / 1024:.0f} MB, then {drains[0]['last_kib'] / 1024:.0f} MB",
    )


def _in_process(what: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, what, str(folder), str(BACKLOG)]
    return json.loads(subprocess.run(command, env=process_environment({}), check=True, capture_output=True).stdout)


def drain(folder: Path, records: int) -> dict[str, Any]:
    """Write a backlog, deliver it, and return what that took."""
    config = config_in(folder)
    _write_backlog(config.buffer_dir, records)
    lock = FileLock(drain_lock_path(config.buffer_dir))
    assert lock.try_acquire()
    ends = [perf_counter_ns()]
    deliverer = Deliverer(Recorder(config), stop=threading.Event(), on_progress=lambda: ends.append(perf_counter_ns()))
    began = time.monotonic()
    deliverer.deliver_once(late=_after(FIRST_RECORDS // BATCH))
    first = peak_kib()
    while deliverer.deliver_once():
        pass
    seconds = time.monotonic() - began
    deliverer.close()
    return _figures(seconds, [end - begin for begin, end in pairwise(ends)], first)


def _write_backlog(folder: Path, records: int) -> None:
    identity = WriterIdentity.of_this_process(time.time_ns())
    writer = BufferWriter(folder, identity, segment_bytes=8 << 20)
    for seq in range(0, records, BATCH):
        for number, record in enumerate(some_records(BATCH)):
            writer.append(encode_line("run", {"writer": "bench", "seq": seq + number, **record.to_fields()}))
    writer.close()


def _after(batches: int) -> Any:
    # The first call asks whether to begin at all.
    asked = iter(range(batches + 1))
    return lambda: next(asked, None) is None


def store(folder: Path, records: int) -> dict[str, Any]:
    """Write as many records straight into the store, in batches of the drain's size; making them is not measured."""
    target = SqliteTarget(config_in(folder))
    taken = []
    for _ in range(0, records, BATCH):
        batch = Batch.of(some_records(BATCH))
        began = perf_counter_ns()
        assert isinstance(target.deliver(batch), Delivered)
        taken.append(perf_counter_ns() - began)
    target.close()
    return _figures(sum(taken) / 1e9, taken, peak_kib())


def _figures(seconds: float, batches_ns: list[int], first_kib: int) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "batch_p99_ns": at(batches_ns, 0.99),
        "first_kib": first_kib,
        "last_kib": peak_kib(),
    }


def peak_kib() -> int:
    """Return the peak memory of this process in KiB. Linux only: `ru_maxrss` begins with that of the parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


if __name__ == "__main__":
    measure = {"drain": drain, "store": store}[sys.argv[1]]
    print(json.dumps(measure(Path(sys.argv[2]), int(sys.argv[3]))))
    sys.stdout.flush()
    os._exit(0)  # what a recorder does at exit is not measured here
