"""`make bench`, the service's part: the ratios of its budgets, against real processes over loopback.

The target of every figure is a service over a SQLite file in the temporary folder (`TMPDIR`),
with the defaults of journal mode and synchronous level, unless its line names another.
`BENCH_ROWS` is the large number of runs (1,000,000); making that database takes a minute.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter_ns
from typing import NamedTuple

import httpx
import orjson

sys.path.insert(0, str(Path(__file__).parents[2]))

from otel_agent_telemetry.columns import COLUMNS
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.storage.figure_refresh import next_refresh
from otel_agent_telemetry.storage.store import Store
from otel_agent_telemetry.storage.writer_lock import WriterLock
from tests.bench.pairs import HTTP, Ratio, Row, at, each, goal_text, in_pairs, verdict_of
from tests.bench.posting import Posted, post_runs
from tests.bench.processes import cpu_seconds
from tests.bench.records import config_in, some_records

ROWS = int(os.environ.get("BENCH_ROWS", "1000000"))
FEW_ROWS = 10_000
PAGE_GOAL_MS = 100
CLIENTS = 32
POSTS_A_CLIENT = 60
SINGLE_POSTS_GOAL = 3_000
BATCHES_A_BURST = 10
FIGURES = (
    ("agents, 7 days", "/agents"),
    ("agents, 90 days", "/agents?period=90d"),
    ("cost by agent, 7 days", "/cost"),
    ("cost by host, 90 days", "/cost?period=90d&by=host"),
)
"""Pages of figures for a browser."""
SERVE = """
import sys
from pathlib import Path
from otel_agent_telemetry import TelemetryConfig
from otel_agent_telemetry.service import writer
from otel_agent_telemetry.service.server import serve
writer.MAX_GROUP_ITEMS = int(sys.argv[2])
serve(TelemetryConfig(base_dir=Path(sys.argv[1]), api_port=0))
"""


class Service(NamedTuple):
    """A service in a process of its own."""

    url: str
    pid: int

    def cpu_seconds(self) -> float:
        """Return the CPU time that the process has used. Linux only."""
        return cpu_seconds(self.pid)


@contextmanager
def service(folder: Path, *, group: int = 5_000) -> Iterator[Service]:
    """Run a service; `group`: records that it commits together at most."""
    config = config_in(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", SERVE, str(folder), str(group)], stdout=log, stderr=log)
    try:
        lock = WriterLock(config.db_path)
        while (holder := lock.holder()) is None or holder.url is None:
            assert process.poll() is None, (folder / "serve.log").read_text()
            time.sleep(0.05)
        yield Service(holder.url, process.pid)
    finally:
        process.terminate()
        process.wait(30)


def bodies_of(records: Sequence[RunRecord]) -> list[dict[str, object]]:
    return [{**record.to_fields(), "metrics_json": {"tokens": 17}} for record in records]


def batch_ratio(folder: Path) -> Ratio:
    """Compare batches of 100 over HTTP with the same rows through `executemany` into the same tables."""
    statement = f"insert into agent_runs ({','.join(COLUMNS)}) values ({','.join('?' * len(COLUMNS))})"
    connection = plain_connection(folder / "plain")

    def through_executemany() -> int:
        rows = [tuple(getattr(record, name) for name in COLUMNS) for record in some_records(100)]
        began = perf_counter_ns()
        with connection:
            connection.executemany(statement, rows)
        return perf_counter_ns() - began

    with service(folder / "ours") as ours, httpx.Client(base_url=ours.url) as client:

        def through_service() -> int:
            body = orjson.dumps(bodies_of(some_records(100)))
            headers = {"Content-Type": "application/json"}
            began = perf_counter_ns()
            assert client.post("/api/v1/runs/batch", content=body, headers=headers).json()["inserted"] == 100
            return perf_counter_ns() - began

        return in_pairs(
            "executemany / batches of 100 over HTTP (speed, 1 is equal)",
            goal=0.45,
            target=HTTP,
            ours=lambda: [through_executemany() for _ in range(BATCHES_A_BURST)],
            theirs=lambda: [through_service() for _ in range(BATCHES_A_BURST)],
            goal_is_minimum=True,
        )


def plain_connection(folder: Path) -> sqlite3.Connection:
    """Return a connection to an empty database of ours, with the settings of a service and without one."""
    store = Store(config_in(folder))
    store.open()
    store.close()
    connection = sqlite3.connect(folder / "db" / "telemetry.sqlite")
    connection.execute("pragma journal_mode=delete")
    connection.execute("pragma synchronous=full")
    return connection


def group_commit_ratio(folder: Path) -> Ratio:
    """Compare clients that post single runs: everybody's commits together, and one commit for each request."""
    with ExitStack() as stack:
        ours = stack.enter_context(service(folder / "grouped"))
        theirs = stack.enter_context(service(folder / "single", group=1))
        return in_pairs(
            f"{CLIENTS} clients posting single runs: one commit each / group commit",
            goal=20.0,
            target=HTTP,
            ours=lambda: post_runs(theirs.url, clients=CLIENTS, posts=POSTS_A_CLIENT).taken_ns,
            theirs=lambda: post_runs(ours.url, clients=CLIENTS, posts=POSTS_A_CLIENT).taken_ns,
            pairs=7,
            goal_is_minimum=True,
        )


def single_posts(folder: Path) -> Iterator[str]:
    """Yield how many single runs a second are stored for many clients at once, and what limits that.

    The rounds alternate with commits of one row to the same disk without a service, because
    both depend on what else the machine does.
    """
    connection = plain_connection(folder / "plain")
    rounds: list[Posted] = []
    commits: list[int] = []
    with service(folder / "ours") as ours:
        post_runs(ours.url, clients=CLIENTS, posts=POSTS_A_CLIENT)
        cpu = ours.cpu_seconds()
        for _ in range(9):
            rounds.append(post_runs(ours.url, clients=CLIENTS, posts=POSTS_A_CLIENT))
            commits += each(lambda: commit_one(connection), 20)
        cpu = ours.cpu_seconds() - cpu
    taken = [one for part in rounds for one in part.taken_ns]
    rates = sorted(part.per_second for part in rounds)
    rate = rates[len(rates) // 2]
    yield Row(
        f"{CLIENTS} clients posting single runs, runs stored a second",
        HTTP,
        f"{rate:,.0f}/s",
        f"{rates[0]:,.0f}/s",
        goal_text(SINGLE_POSTS_GOAL, at_least=True, unit="/s"),
        verdict_of(rate, SINGLE_POSTS_GOAL, at_least=True),
        f"best round {rates[-1]:,.0f}/s; a request {at(taken, 0.5) / 1e6:.1f} / {at(taken, 0.99) / 1e6:.1f} ms",
    ).line()
    yield (
        f"    its limits: CPU of the service {cpu / len(taken) * 1e6:.0f} us a request, "
        f"{cpu / sum(part.seconds for part in rounds):.2f} of one core; "
        f"client {max(part.client_share for part in rounds):.2f} of one core; a commit of one row alone "
        f"p50 {at(commits, 0.5) / 1e6:.1f} p99 {at(commits, 0.99) / 1e6:.1f} ms"
    )


def commit_one(connection: sqlite3.Connection) -> None:
    """Commit one small row: what the disk asks for any transaction."""
    with connection:
        connection.execute("INSERT OR REPLACE INTO run_hours (hour, runs) VALUES (?, 1)", (str(time.time_ns()),))


FILL = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :rows)
INSERT INTO agent_runs (event_id, run_id, schema_version, created_at, updated_at, start_time, end_time, agent_name,
    job_type, status, host, git_repo, git_commit_hash, metrics_json, context_json, trace_id, span_id, duration_ms,
    model, model_calls, input_tokens)
SELECT printf('%08x-0000-4000-8000-%012x', i, i), 'run-' || i, 8, t, t, t, t, 'agent-' || (i % 50), 'job-' || (i % 9),
    CASE i % 10 WHEN 0 THEN 'failed' ELSE 'success' END, 'host-' || (i % 20), 'https://github.com/owner/repo.git',
    'abcdef1234',
    CASE i % 10 WHEN 1 THEN '{"gen_ai":{"by_model":{"gpt-4o":{"model_calls":1,"input_tokens":' || (i % 7000) || '}}}}'
        ELSE '{"tokens":17,"score":0.5}' END, '{"a":{"b":[1,2,3]},"text":"some words of context"}',
    printf('%032x', i + 1), printf('%016x', i + 1), 1000 + i * 7919 % 60000,
    CASE i % 10 WHEN 1 THEN 'gpt-4o' END, i % 10 = 1, CASE i % 10 WHEN 1 THEN i % 7000 ELSE 0 END
FROM (SELECT i, strftime('%Y-%m-%dT%H:%M:%S', :newest - i, 'unixepoch') || '.000000+00:00' AS t FROM n)
"""


def filled(folder: Path, rows: int) -> Path:
    """A base directory whose database has so many runs, counted and summed as the service does."""
    store = Store(config_in(folder))
    store.open()
    store.close()
    with sqlite3.connect(folder / "db" / "telemetry.sqlite") as connection:
        connection.execute(FILL, {"rows": rows, "newest": int(time.time())})
        connection.execute(
            "INSERT INTO run_counts SELECT agent_name, job_type, status, count(*) FROM agent_runs GROUP BY 1, 2, 3"
        )
        connection.execute(
            "INSERT INTO run_hours SELECT substr(created_at, 1, 13), count(*) FROM agent_runs GROUP BY 1"
        )
    connection.close()
    store.open()
    refresh_figures(store)
    store.close()
    return folder


def refresh_figures(store: Store) -> None:
    """Sum the runs of every day, as a service does in the background."""
    while True:
        with store.reading() as connection:
            found = next_refresh(connection, datetime.now(UTC).date())
        if found is None:
            return
        store.transact(found.write)


def size_ratios(folder: Path) -> Iterator[Ratio | Row]:
    """The same reads with many runs and with few."""
    with ExitStack() as stack:
        urls = [stack.enter_context(service(filled(folder / str(rows), rows))).url for rows in (ROWS, FEW_ROWS)]
        many, few = (stack.enter_context(httpx.Client(base_url=url, timeout=120)) for url in urls)
        for name, path in (
            ("a page of 100 runs", "/api/v1/runs?limit=100"),
            ("a page of 100 runs of one agent", "/api/v1/runs?limit=100&agent_name=agent-7"),
            ("a deep page by cursor", f"/api/v1/runs?limit=100&created_before={_of_row(few, 5_000)}"),
            ("/metrics", "/metrics"),
            ("/metrics/prometheus", "/metrics/prometheus"),
            ("/api/v1/metadata", "/api/v1/metadata"),
            ("one run", f"/api/v1/runs/{5:08x}-0000-4000-8000-{5:012x}"),
        ):
            yield _size_ratio(name, path, many, few)
        for name, path in (
            *FIGURES,
            ("the page of runs", "/"),
            ("the page of one agent's runs", "/?agent=agent-7"),
            ("the page of failed runs", "/?status=failed"),
            ("the page of the longest runs", "/?sort=duration"),
            ("the page of runs with a text that none has", "/?text=nowhere"),
        ):
            ratio = _size_ratio(name, path, many, few)
            yield ratio
            yield _first_byte(name, ratio)


def _size_ratio(name: str, path: str, many: httpx.Client, few: httpx.Client) -> Ratio:
    return in_pairs(
        f"{name}: {ROWS:,} / {FEW_ROWS:,} runs",
        goal=1.5,
        target=HTTP,
        ours=_getting(many, path),
        theirs=_getting(few, path),
        pairs=11,
    )


def _first_byte(name: str, ratio: Ratio) -> Row:
    """Return the row for how long a page takes at the large number of runs, from the request to its last byte."""
    p50, p99 = (microseconds / 1000 for microseconds in ratio.ours_us)
    goal = goal_text(PAGE_GOAL_MS, unit=" ms")
    verdict = verdict_of(p50, PAGE_GOAL_MS)
    return Row(f"{name}, {ROWS:,} runs", HTTP, f"{p50:.1f} ms", f"{p99:.1f} ms", goal, verdict)


def _of_row(client: httpx.Client, number: int) -> str:
    run = client.get(f"/api/v1/runs/{number:08x}-0000-4000-8000-{number:012x}").json()
    return str(httpx.QueryParams({"t": run["created_at"]}))[2:]


def _getting(client: httpx.Client, path: str) -> Callable[[], list[int]]:
    def get() -> None:
        assert client.get(path).status_code == 200

    return lambda: each(get, 20)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        print(batch_ratio(folder / "batch").line(), flush=True)
        for line in single_posts(folder / "posts"):
            print(line, flush=True)
        print(group_commit_ratio(folder / "group").line(), flush=True)
        for ratio in size_ratios(folder / "size"):
            print(ratio.line(), flush=True)


if __name__ == "__main__":
    main()
