"""`make bench`: the ratios of the design's budgets that exist by now, in one run.

Absolute times drift with the machine and are shown for orientation; the ratios are the
result. Exits 0 whatever they are: a budget is a goal to be watched, not a test.
"""

from __future__ import annotations

import http.server
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

sys.path.insert(0, str(Path(__file__).parents[2]))

from otel_agent_telemetry import TelemetryClient, instrument
from otel_agent_telemetry.buffer.identity import WriterIdentity
from otel_agent_telemetry.buffer.layout import drain_lock_path
from otel_agent_telemetry.buffer.writer import BufferWriter
from otel_agent_telemetry.delivery.deliverer import Deliverer
from otel_agent_telemetry.locks import FileLock
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.recording.recorder import Recorder
from otel_agent_telemetry.storage.store import Store
from otel_agent_telemetry.wire import encode_line
from tests.bench.pairs import Ratio, each, in_pairs
from tests.bench.records import config_in, some_records

RUNS_A_BURST = 200
CHILD_SPANS = 50
BACKLOG = int(os.environ.get("BENCH_BACKLOG", "100000"))


class _Collector(http.server.BaseHTTPRequestHandler):
    """Answers 200 to whatever it is sent, in a process of its own."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def _collect(port: Any) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Collector)
    port.put(server.server_address[1])
    server.serve_forever()


@contextmanager
def collector() -> Iterator[str]:
    """The URL of a receiver that takes OTLP and forgets it."""
    context = multiprocessing.get_context("spawn")
    port = context.Queue()
    process = context.Process(target=_collect, args=(port,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{port.get(timeout=30)}/v1/traces"
    finally:
        process.kill()


def one_run(tracer: Any) -> None:
    with tracer.start_as_current_span("invoke_agent a", attributes={"gen_ai.agent.name": "a"}) as span:
        for step in range(3):
            span.add_event("step", {"step": step})


def one_deep_run(tracer: Any) -> None:
    with tracer.start_as_current_span("invoke_agent a", attributes={"gen_ai.agent.name": "a"}):
        for step in range(CHILD_SPANS):
            kind = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "look", "step": step}
            with tracer.start_as_current_span("execute_tool look", attributes=kind):
                pass


def caller_ratios(folder: Path, endpoint: str) -> Iterator[Ratio]:
    """What a run and an event cost the application's thread."""
    config = config_in(folder)
    theirs, ours = TracerProvider(shutdown_on_exit=False), TracerProvider(shutdown_on_exit=False)
    theirs.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint), max_queue_size=100_000))
    assert instrument(config, tracer_provider=ours)  # what every entry point does
    client = TelemetryClient(config, tracer_provider=ours)

    def one_client_run() -> None:
        with client.track_run("a", "job") as run:
            for step in range(3):
                run.log_event("step", {"step": step})

    def burst(provider: TracerProvider, action: Any, pause_s: float = 0.0, times: int = RUNS_A_BURST) -> list[int]:
        """Many in a row, or with a pause between them; what is left in the background ends before the other's turn."""
        taken = []
        for _ in range(times):
            taken += each(action, 1)
            if pause_s:
                time.sleep(pause_s)
        provider.force_flush(30_000)
        client.flush(30.0)
        return taken

    their_tracer, our_tracer = theirs.get_tracer("bench"), ours.get_tracer("bench")
    for how, pause_s, times in (("100 a second", 0.01, 60), ("without a pause", 0.0, RUNS_A_BURST)):
        yield in_pairs(
            f"a run with 3 events, {how} / BatchSpanProcessor + OTLP",
            goal=2.0,
            ours=lambda p=pause_s, n=times: burst(ours, lambda: one_run(our_tracer), p, n),
            theirs=lambda p=pause_s, n=times: burst(theirs, lambda: one_run(their_tracer), p, n),
        )
        yield in_pairs(
            f"the same through TelemetryClient, {how}",
            goal=2.0,
            ours=lambda p=pause_s, n=times: burst(ours, one_client_run, p, n),
            theirs=lambda p=pause_s, n=times: burst(theirs, lambda: one_run(their_tracer), p, n),
        )
    yield in_pairs(
        f"a run with {CHILD_SPANS} child spans, through an entry point / BatchSpanProcessor + OTLP",
        goal=2.0,
        ours=lambda: burst(ours, lambda: one_deep_run(our_tracer), 0.0, 40),
        theirs=lambda: burst(theirs, lambda: one_deep_run(their_tracer), 0.0, 40),
    )
    bare, run_id = (
        TracerProvider(shutdown_on_exit=False).get_tracer("bench").start_span("bare"),
        client.start_run("a", "j"),
    )
    yield in_pairs(
        "log_event / a bare add_event",
        goal=3.0,
        ours=lambda: each(lambda: client.log_event(run_id, "step", {"step": 1}), 500),
        theirs=lambda: each(lambda: bare.add_event("step", {"step": 1}), 500),
    )
    client.end_run(run_id)
    client.close()


def process_ratio() -> Ratio:
    """What importing the package costs beyond OpenTelemetry's SDK."""

    def importing(what: str) -> list[int]:
        began = perf_counter_ns()
        subprocess.run([sys.executable, "-c", what], check=True)
        return [perf_counter_ns() - began]

    ours = "from otel_agent_telemetry import TelemetryClient, AgentRunSpanProcessor"
    return in_pairs(
        "import of the package / import opentelemetry.sdk.trace",
        goal=1.3,
        ours=lambda: importing(ours),
        theirs=lambda: importing("import opentelemetry.sdk.trace"),
    )


def exit_seconds(folder: Path) -> list[float]:
    """From the last statement of a script with one run to the end of its process, new and known base directory."""
    script = (
        "import sys, time; from otel_agent_telemetry import TelemetryClient\n"
        "client = TelemetryClient()\n"
        "with client.track_run('a', 'j') as run: run.log_event('e')\n"
        "print(time.time_ns())\n"
    )
    taken = []
    for _ in range(5):
        environment = {**os.environ, "TELEMETRY_BASE_DIR": str(folder)}
        done = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True)
        taken.append((time.time_ns() - int(done.stdout)) / 1e9)
    return taken


def storage_ratio(folder: Path) -> Ratio:
    """Batches of 100 through our upsert, and the same rows through `executemany` into the same tables."""
    store, plain = Store(config_in(folder / "ours")), Store(config_in(folder / "plain"))
    store.open()
    plain.open()
    plain.close()
    connection = sqlite3.connect(folder / "plain" / "db" / "telemetry.sqlite")
    connection.execute("pragma journal_mode=delete")
    connection.execute("pragma synchronous=full")
    columns = list(RunRecord.__dataclass_fields__)
    statement = f"insert into agent_runs ({','.join(columns)}) values ({','.join('?' * len(columns))})"

    def through_store() -> list[int]:
        records = some_records(100)
        return each(lambda: store.write(records), 1)

    def through_executemany() -> list[int]:
        rows = [tuple(getattr(record, name) for name in columns) for record in some_records(100)]
        began = perf_counter_ns()
        with connection:
            connection.executemany(statement, rows)
        return [perf_counter_ns() - began]

    return in_pairs(
        "executemany / our upsert, batches of 100 (speed, 1 is equal)",
        goal=0.5,
        ours=through_executemany,
        theirs=through_store,
        pairs=40,
        goal_is_minimum=True,
    )


def drain_backlog(folder: Path) -> str:
    """A backlog of states of ended runs: rate against the store alone, and memory at the half and at the end."""
    import resource

    config = config_in(folder)
    writer = BufferWriter(config.buffer_dir, WriterIdentity.of_this_process(time.time_ns()), segment_bytes=8 << 20)
    for seq in range(0, BACKLOG, 1000):
        for number, record in enumerate(some_records(1000)):
            writer.append(encode_line("run", {"writer": "bench", "seq": seq + number, **record.to_fields()}))
    writer.close()
    recorder, lock = Recorder(config), FileLock(drain_lock_path(config.buffer_dir))
    assert lock.try_acquire()
    deliverer = Deliverer(recorder, stop=threading.Event())
    began = time.monotonic()
    deliverer.drain.run_pass(deliverer._resolved(), stop=lambda: True)
    first = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while deliverer.deliver_once():
        pass
    rate = BACKLOG / (time.monotonic() - began)
    last = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    deliverer.close()
    store = Store(config_in(folder / "alone"))
    store.open()
    began = time.monotonic()
    for _ in range(20):
        store.write(some_records(500))
    alone = 10_000 / (time.monotonic() - began)
    return (
        f"drain of {BACKLOG:,} records: {rate:,.0f}/s, x{rate / alone:.2f} of the store alone (goal >= 0.5), "
        f"peak memory after one batch {first / 1024:.0f} MiB, at the end {last / 1024:.0f} MiB"
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch, collector() as endpoint:
        folder = Path(scratch)
        for ratio in caller_ratios(folder / "caller", endpoint):
            print(ratio.line(), flush=True)
        print(process_ratio().line(), flush=True)
        print(storage_ratio(folder / "storage").line(), flush=True)
        taken = exit_seconds(folder / "exit")
        print(f"exit of a script with one run: {taken[0]:.2f} s into a new base directory,", end=" ")
        print(f"then {sorted(taken[1:])[2]:.2f} s (goal <= 0.5)")
        print(drain_backlog(folder / "backlog"), flush=True)


if __name__ == "__main__":
    main()
