"""Events of a hundred writers from a journal to one service on PostgreSQL: how late they are, and against COPY.

    make bench-delivery BENCH_RATES=1000:600,5000:60

The writers are processes that append their events to the journal of one host, each event with a write of
its own, at a fixed rate together; `agent-telemetry deliver` sends them to `agent-telemetry serve`, each a
process too. The lag is the age of the oldest line that is not confirmed, looked at ten times a second.
Then a backlog is delivered at once, and the same rows go by COPY into a table with the same
indexes, in the same minute on the same machine.

`BENCH_RATES` are events a second and for how many seconds, `BENCH_WRITERS` the processes (100), `BENCH_LINES` the
backlog (100,000).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from otel_agent_telemetry.append import AppendFile
from otel_agent_telemetry.clock import SystemClock, day_of, iso_utc
from otel_agent_telemetry.delivery.journal_cursor import last_cursor
from otel_agent_telemetry.journal import journal_path
from otel_agent_telemetry.run_id import new_event_id
from otel_agent_telemetry.testing import isolated_config
from otel_agent_telemetry.wire import encode_line
from tests.bench.processes import cpu_seconds
from tests.components import COMPONENTS
from tests.postgres import Server
from tests.service.running import serve_process

RATES = os.environ.get("BENCH_RATES") or "1000:20,5000:20"
WRITERS = int(os.environ.get("BENCH_WRITERS", "100"))
BACKLOG = int(os.environ.get("BENCH_LINES", "100000"))
MAX_LAG_S = 30.0
TICK_S = 0.1
PATIENCE_S = 900.0
DELIVER = (sys.executable, "-m", "otel_agent_telemetry.cli", "deliver")


class Writer:
    """One writer of a host, with a run whose events stand in the host's journal."""

    def __init__(self, path: Path, number: int) -> None:
        stamp = iso_utc(SystemClock.now_ns())[:19].replace("-", "").replace(":", "")
        self._file = AppendFile(path)
        self._seq = 0
        self._members = {
            "writer": f"{stamp}-{number}-{number:08x}",
            "seq": 0,
            "event_id": new_event_id(),
            "run_id": f"run-{number}",
            "trace_id": f"{number + 1:032x}",
            "span_id": f"{number + 1:016x}",
            "event_type": "checkpoint",
        }

    def line(self) -> bytes:
        """Return the line of the next event."""
        self._seq += 1
        payload = {"number": self._seq, "file": f"docs/page-{self._seq}.md", "state": "indexed"}
        at = iso_utc(SystemClock.now_ns())
        return encode_line("event", {**self._members, "seq": self._seq, "timestamp": at, "payload": payload})

    def write(self, lines: bytes) -> None:
        """Append lines with one write."""
        self._file.write(lines)

    def write_at(self, rate: float, seconds: float) -> None:
        """Write events at a rate, each with a write of its own."""
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            for _ in range(int(passed * rate) - self._seq):
                self.write(self.line())
            time.sleep(TICK_S)


@contextmanager
def writing(path: Path, first: int, rate: float, seconds: float) -> Iterator[None]:
    """Run the writers, each a process."""
    pids = []
    for number in range(first, first + WRITERS):
        pid = os.fork()
        if pid == 0:
            Writer(path, number).write_at(rate / WRITERS, seconds)
            os._exit(0)
        pids.append(pid)
    try:
        yield
    finally:
        for pid in pids:
            os.waitpid(pid, 0)


def lags(path: Path, confirmed: Callable[[], int], *, seconds: float) -> list[float]:
    """Return the lag at each look, until all that is written in these seconds is confirmed."""
    waiting: deque[tuple[int, float]] = deque()
    seen: list[float] = []
    began = time.monotonic()
    while True:
        now = time.monotonic()
        waiting.append((path.stat().st_size if path.exists() else 0, now))
        at = confirmed()
        while waiting and waiting[0][0] <= at:
            waiting.popleft()
        seen.append(now - waiting[0][1] if waiting else 0.0)
        if not waiting and now - began >= seconds + 2 * TICK_S:
            return seen
        if now - began > seconds + PATIENCE_S:
            raise SystemExit(f"not delivered {PATIENCE_S:g} s after the last event")
        time.sleep(max(TICK_S - (time.monotonic() - now), 0.0))


@contextmanager
def delivering(base_dir: Path, url: str) -> Iterator[int]:
    """Run `agent-telemetry deliver` for a base directory; yield its process id."""
    env = {**os.environ, "TELEMETRY_BASE_DIR": str(base_dir), "TELEMETRY_API_URL": url}
    process = subprocess.Popen(DELIVER, env=env, stdout=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(60)


def copy_rate(server: Any, database: str) -> float:
    """Return how many of the stored events a second COPY writes into a table with the same indexes."""
    names = "event_id, run_id, event_type, timestamp, payload_json, trace_id, span_id, seq, writer, writer_seq"
    with server.connected(database) as connection:
        rows = connection.execute(f"SELECT {names} FROM run_events ORDER BY id").fetchall()
        connection.execute("CREATE TABLE copied (LIKE run_events INCLUDING ALL)")
        connection.execute("CREATE SEQUENCE copied_id")
        connection.execute("ALTER TABLE copied ALTER id SET DEFAULT nextval('copied_id')")
        began = time.monotonic()
        with connection.cursor() as cursor, cursor.copy(f"COPY copied ({names}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        return len(rows) / (time.monotonic() - began)


def main() -> None:
    """Print one line for each rate, and one for the backlog."""
    server = Server(COMPONENTS["PostgreSQL"].find())
    server.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            database = server.make_database()
            measure(server, database, Path(folder))
    finally:
        server.remove()


def measure(server: Any, database: str, folder: Path) -> None:
    """Measure on a database that is empty."""
    config = isolated_config(folder / "host")
    for needed in (config.buffer_dir, config.ndjson_dir):
        needed.mkdir(parents=True)
    path = journal_path(config.ndjson_dir, day_of(SystemClock.now_ns()))

    def confirmed() -> int:
        cursor = last_cursor(config.buffer_dir)
        return 0 if cursor is None or not path.exists() else cursor.confirmed(path)

    with (
        serve_process(folder / "service", {"TELEMETRY_DATABASE_URL": server.url(database)}) as service,
        delivering(config.base_dir, service.url) as deliverer,
    ):
        for number, (rate, seconds) in enumerate(rates_of(RATES)):
            with writing(path, number * WRITERS, rate, seconds):
                seen = sorted(lags(path, confirmed, seconds=seconds))
            verdict = "met" if seen[-1] < MAX_LAG_S else "MISSED"
            print(
                f"{rate:g} events/s for {seconds:g} s, {WRITERS} processes: lag p50 {seen[len(seen) // 2]:.2f} s, "
                f"max {seen[-1]:.2f} s (below {MAX_LAG_S:g} s: {verdict})",
                flush=True,
            )
        server.execute("TRUNCATE run_events", database=database)
        writer = Writer(path, -1)
        backlog = b"".join(writer.line() for _ in range(BACKLOG))
        size = path.stat().st_size + len(backlog)
        before = [cpu_seconds(pid) for pid in (deliverer, service.pid)]
        began = time.monotonic()
        writer.write(backlog)
        while confirmed() < size:
            time.sleep(0.02)
        drained = BACKLOG / (time.monotonic() - began)
        used = [cpu_seconds(pid) - cpu for pid, cpu in zip((deliverer, service.pid), before, strict=True)]
    copied = copy_rate(server, database)
    ratio = drained / copied
    print(f"a backlog of {BACKLOG}: {drained:.0f} events/s, COPY {copied:.0f} rows/s, ratio {ratio:.2f}")
    each = " and ".join(f"{seconds / BACKLOG * 1e6:.1f} us" for seconds in used)
    print(f"CPU an event: {each} of the deliverer and of the service")


def rates_of(text: str) -> Iterator[tuple[float, float]]:
    """Yield the events a second and the seconds of each part of `BENCH_RATES`."""
    for part in text.split(","):
        rate, _, seconds = part.partition(":")
        yield float(rate), float(seconds)


if __name__ == "__main__":
    main()
