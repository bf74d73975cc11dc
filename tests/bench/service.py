"""`make bench`, the service's part: the ratios of its budgets, against real processes over loopback.

`BENCH_ROWS` is the large number of runs (1,000,000); making that database takes a minute.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter_ns

import httpx
import orjson

sys.path.insert(0, str(Path(__file__).parents[2]))

from otel_agent_telemetry.columns import COLUMNS
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.storage.store import Store
from otel_agent_telemetry.storage.writer_lock import WriterLock
from tests.bench.pairs import Ratio, each, in_pairs
from tests.bench.records import config_in, some_records

ROWS = int(os.environ.get("BENCH_ROWS", "1000000"))
FEW_ROWS = 10_000
CLIENTS = 32
POSTS_A_CLIENT = 30
SERVE = """
import sys
from pathlib import Path
from otel_agent_telemetry import TelemetryConfig
from otel_agent_telemetry.service import writer
from otel_agent_telemetry.service.server import serve
writer.MAX_GROUP_ITEMS = int(sys.argv[2])
serve(TelemetryConfig(base_dir=Path(sys.argv[1]), api_port=0))
"""


@contextmanager
def service(folder: Path, *, group: int = 5_000) -> Iterator[str]:
    """The URL of a service in a process of its own; `group`: records that it commits together at most."""
    config = config_in(folder)
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(folder), str(group)])
    try:
        lock = WriterLock(config.db_path)
        while (holder := lock.holder()) is None or holder.url is None:
            assert process.poll() is None, "the service did not start"
            time.sleep(0.05)
        yield holder.url
    finally:
        process.terminate()
        process.wait(30)


def bodies_of(records: Sequence[RunRecord]) -> list[dict[str, object]]:
    return [{**record.to_fields(), "metrics_json": {"tokens": 17}} for record in records]


def batch_ratio(folder: Path) -> Ratio:
    """Batches of 100 over HTTP, and the same rows through `executemany` with the same indexes and pragmas."""
    plain = Store(config_in(folder / "plain"))
    plain.open()
    plain.close()
    connection = sqlite3.connect(folder / "plain" / "db" / "telemetry.sqlite")
    connection.execute("pragma journal_mode=delete")
    connection.execute("pragma synchronous=full")
    statement = f"insert into agent_runs ({','.join(COLUMNS)}) values ({','.join('?' * len(COLUMNS))})"

    def through_executemany() -> list[int]:
        rows = [tuple(getattr(record, name) for name in COLUMNS) for record in some_records(100)]
        began = perf_counter_ns()
        with connection:
            connection.executemany(statement, rows)
        return [perf_counter_ns() - began]

    with service(folder / "ours") as url, httpx.Client(base_url=url) as client:

        def through_service() -> list[int]:
            body = orjson.dumps(bodies_of(some_records(100)))
            headers = {"Content-Type": "application/json"}
            began = perf_counter_ns()
            assert client.post("/api/v1/runs/batch", content=body, headers=headers).json()["inserted"] == 100
            return [perf_counter_ns() - began]

        return in_pairs(
            "executemany / batches of 100 over HTTP (speed, 1 is equal)",
            goal=0.5,
            ours=through_executemany,
            theirs=through_service,
            pairs=60,
            goal_is_minimum=True,
        )


def group_commit_ratio(folder: Path) -> Ratio:
    """32 clients that post single runs: everybody's commits together, and one commit for each request."""
    with ExitStack() as stack:
        ours = stack.enter_context(service(folder / "grouped"))
        theirs = stack.enter_context(service(folder / "single", group=1))
        return in_pairs(
            f"{CLIENTS} clients posting single runs: one commit each / group commit",
            goal=20.0,
            ours=lambda: [asyncio.run(posting(theirs))],
            theirs=lambda: [asyncio.run(posting(ours))],
            pairs=7,
            goal_is_minimum=True,
        )


async def posting(url: str) -> int:
    """Nanoseconds a request, for many clients that each post one run after another on one connection."""
    parts = httpx.URL(url)
    requests = [[_request(record) for record in bodies_of(some_records(POSTS_A_CLIENT))] for _ in range(CLIENTS)]
    began = perf_counter_ns()
    await asyncio.gather(*(_one_client(parts.host, parts.port or 80, mine) for mine in requests))
    return (perf_counter_ns() - began) // (CLIENTS * POSTS_A_CLIENT)


def _request(body: dict[str, object]) -> bytes:
    content = orjson.dumps(body)
    head = f"POST /api/v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    return head.encode() + b"\r\n\r\n" + content


async def _one_client(host: str, port: int, requests: Sequence[bytes]) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    for request in requests:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 201 " in head.split(b"\r\n", 1)[0], head
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))
    writer.close()


FILL = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :rows)
INSERT INTO agent_runs (event_id, run_id, schema_version, created_at, updated_at, start_time, end_time, agent_name,
    job_type, status, host, git_repo, git_commit_hash, metrics_json, context_json, trace_id, span_id, duration_ms)
SELECT printf('%08x-0000-4000-8000-%012x', i, i), 'run-' || i, 8, t, t, t, t, 'agent-' || (i % 50), 'job-' || (i % 9),
    CASE i % 10 WHEN 0 THEN 'failed' ELSE 'success' END, 'host-' || (i % 20), 'https://github.com/owner/repo.git',
    'abcdef1234', '{"tokens":17,"score":0.5}', '{"a":{"b":[1,2,3]},"text":"some words of context"}',
    printf('%032x', i + 1), printf('%016x', i + 1), 1500
FROM (SELECT i, strftime('%Y-%m-%dT%H:%M:%S', :newest - i, 'unixepoch') || '.000000+00:00' AS t FROM n)
"""


def filled(folder: Path, rows: int) -> Path:
    """A base directory whose database has so many runs, counted as the service counts."""
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
    return folder


def size_ratios(folder: Path) -> Iterator[Ratio]:
    """The same reads with many runs and with few."""
    with ExitStack() as stack:
        urls = [stack.enter_context(service(filled(folder / str(rows), rows))) for rows in (ROWS, FEW_ROWS)]
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
            yield in_pairs(
                f"{name}: {ROWS:,} / {FEW_ROWS:,} runs",
                goal=1.5,
                ours=_getting(many, path),
                theirs=_getting(few, path),
                pairs=11,
            )


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
        print(group_commit_ratio(folder / "group").line(), flush=True)
        for ratio in size_ratios(folder / "size"):
            print(ratio.line(), flush=True)


if __name__ == "__main__":
    main()
