"""Events of a hundred writers from a journal to one service on PostgreSQL: how late they are, and against COPY.

    BENCH_SECONDS=60 make bench-delivery

Lines are written to the journal of one host at a fixed rate; `agent-telemetry deliver` sends them to
`agent-telemetry serve`, each a process. The lag is the age of the oldest line that is not
confirmed, looked at ten times a second. Then a backlog is delivered at once, and the same rows go by
COPY into a table with the same indexes, in the same minute on the same machine.
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
from tests.components import COMPONENTS
from tests.postgres import Server
from tests.service.running import serve_process

SECONDS = float(os.environ.get("BENCH_SECONDS", "10"))
RATES = (1_000, 5_000)
WRITERS = 100
BACKLOG = int(os.environ.get("BENCH_LINES", "50000"))
TICK_S = 0.1
PATIENCE_S = 600.0
DELIVER = (sys.executable, "-m", "otel_agent_telemetry.cli", "deliver")


class Writers:
    """A hundred writers of one host, each with a run, whose events stand in one journal."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        now_ns = SystemClock.now_ns()
        self.path = journal_path(folder, day_of(now_ns))
        self._file = AppendFile(self.path)
        stamp = iso_utc(now_ns)[:19].replace("-", "").replace(":", "")
        self._writers = [f"{stamp}-{number}-{number:08x}" for number in range(WRITERS)]
        self._runs = [new_event_id() for _ in range(WRITERS)]
        self._number = 0
        self.size = 0

    def write(self, count: int) -> int:
        """Write so many events; return the size of the journal then."""
        at = iso_utc(SystemClock.now_ns())
        lines = []
        for number in range(self._number, self._number + count):
            who, seq = number % WRITERS, number // WRITERS + 1
            members = {
                "writer": self._writers[who],
                "seq": seq,
                "event_id": self._runs[who],
                "run_id": f"run-{who}",
                "trace_id": f"{who + 1:032x}",
                "span_id": f"{who + 1:016x}",
                "event_type": "checkpoint",
                "timestamp": at,
                "payload": {"number": seq, "file": f"docs/page-{seq}.md", "state": "indexed"},
            }
            lines.append(encode_line("event", members))
        self._number += count
        block = b"".join(lines)
        self._file.write(block)
        self.size += len(block)
        return self.size


def lags(writers: Writers, confirmed: Callable[[], int], *, rate: int, seconds: float) -> list[float]:
    """Write at a rate; return the lag at each look, until all is confirmed."""
    waiting: deque[tuple[int, float]] = deque()
    seen: list[float] = []
    began = time.monotonic()
    written = 0
    while True:
        now = time.monotonic()
        if now - began < seconds:
            due = int((now - began + TICK_S) * rate) - written
            waiting.append((writers.write(due), now))
            written += due
        at = confirmed()
        while waiting and waiting[0][0] <= at:
            waiting.popleft()
        seen.append(now - waiting[0][1] if waiting else 0.0)
        if not waiting and now - began >= seconds:
            return seen
        if now - began > PATIENCE_S:
            raise SystemExit(f"{rate} events/s: not delivered after {PATIENCE_S:g} s")
        time.sleep(max(TICK_S - (time.monotonic() - now), 0.0))


@contextmanager
def delivering(base_dir: Path, url: str) -> Iterator[None]:
    """Run `agent-telemetry deliver` for a base directory."""
    env = {**os.environ, "TELEMETRY_BASE_DIR": str(base_dir), "TELEMETRY_API_URL": url}
    process = subprocess.Popen(DELIVER, env=env, stdout=subprocess.DEVNULL)
    try:
        yield
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
    config.buffer_dir.mkdir(parents=True)
    writers = Writers(config.ndjson_dir)

    def confirmed() -> int:
        cursor = last_cursor(config.buffer_dir)
        return 0 if cursor is None else cursor.confirmed(writers.path)

    with serve_process(folder / "service", {"TELEMETRY_DATABASE_URL": server.url(database)}) as service:
        for rate in RATES:
            with delivering(config.base_dir, service.url):
                seen = lags(writers, confirmed, rate=rate, seconds=SECONDS)
            seen.sort()
            p50, most = seen[len(seen) // 2], seen[-1]
            print(f"{rate} events/s for {SECONDS:g} s, {WRITERS} writers: lag p50 {p50:.2f} s, max {most:.2f} s")
        server.execute("TRUNCATE run_events", database=database)
        writers.write(BACKLOG)
        began = time.monotonic()
        with delivering(config.base_dir, service.url):
            while confirmed() < writers.size:
                time.sleep(0.02)
            drained = BACKLOG / (time.monotonic() - began)
    copied = copy_rate(server, database)
    ratio = drained / copied
    print(f"a backlog of {BACKLOG}: {drained:.0f} events/s, COPY {copied:.0f} rows/s, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
