"""What a whole process costs: CPU for its runs, the import, and the exit of a short script."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.bench.pairs import FAST, NO_TARGET, SQLITE, Pairs, Ratio, Row, Times, goal_text, measured, scaled, verdict_of
from tests.bench.records import process_environment

RUNS = 20_000
EXIT_GOAL_MS = 50.0


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used. Linux only."""
    # utime and stime: the 12th and 13th field after the name, which is in parentheses.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


RECORD = """
import resource, sys
from opentelemetry.sdk.trace import TracerProvider
how, where, runs = sys.argv[1], sys.argv[2], int(sys.argv[3])
provider = TracerProvider(shutdown_on_exit=False)
if how == "theirs":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(where), max_queue_size=100_000))
else:
    from otel_agent_telemetry import AgentRunSpanProcessor, TelemetryConfig
    settings = dict(setting.split("=", 1) for setting in where.split("\\n"))
    provider.add_span_processor(AgentRunSpanProcessor(TelemetryConfig.from_env(settings)))
from tests.bench.workloads import run
tracer = provider.get_tracer("bench")
def cpu_us():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return (used.ru_utime + used.ru_stime) * 1e6
for _ in range(100):
    run(tracer)
provider.force_flush(30_000)
began = cpu_us()
for _ in range(runs):
    run(tracer)
assert provider.force_flush(60_000)
print((cpu_us() - began) / runs)
provider.shutdown()
"""

ONE_RUN = """
import os, sys, time
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
with client.track_run("researcher", "job") as run:
    run.log_event("step", {"step": 1})
print(time.monotonic_ns(), flush=True)
"""


class Child(NamedTuple):
    """What a child process used: CPU of its whole life, what it printed, and when it had ended."""

    cpu_ns: int
    wall_ns: int
    output: str
    ended_ns: int


def child(code: str, *arguments: str, environment: dict[str, str] | None = None) -> Child:
    """Run code in an interpreter of its own. Raises RuntimeError when it fails."""
    began = time.monotonic_ns()
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=process_environment(environment or {}),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        ended = time.monotonic_ns()
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"a measured process ended with status {process.returncode}")
    return Child(int((used.ru_utime + used.ru_stime) * 1e9), ended - began, output, ended)


def cpu_rows(settings_of: Callable[[int], dict[str, str]], endpoint: str, *, target: str = SQLITE) -> Iterator[Ratio]:
    """Yield CPU of a process per run, delivery included: of its whole life, and after its first 100 runs.

    `settings_of` returns the settings of our process for the number of the pair.
    """
    runs = scaled(RUNS)
    number = iter(range(1_000))
    warm: dict[str, list[Sequence[int]]] = {"ours": [], "theirs": []}

    def used(how: str, where: str) -> list[int]:
        done = child(RECORD, how, where, str(runs))
        warm[how].append([int(float(done.output) * 1e3)])
        return [done.cpu_ns // runs]

    def ours() -> list[int]:
        return used("ours", "\n".join(f"{name}={value}" for name, value in settings_of(next(number)).items()))

    whole = measured(ours, lambda: used("theirs", endpoint), pairs=9)
    yield whole.ratio(f"CPU of a process per run, {runs:,} runs, flush, exit / the same", goal=0.8, target=target)
    afterwards = Pairs(warm["ours"][1:], warm["theirs"][1:])
    yield afterwards.ratio("CPU of a process per run after its start / the same", goal=0.8, target=target)


def import_row() -> Ratio:
    """Return what importing client and processor costs: wall and CPU time of whole processes."""
    ours = "from otel_agent_telemetry import TelemetryClient, AgentRunSpanProcessor"

    def importing(what: str) -> Times:
        done = child(what)
        return Times([done.wall_ns], [done.cpu_ns])

    return measured(
        lambda: importing(ours),
        lambda: importing("import opentelemetry.sdk.trace"),
        pairs=25,
    ).ratio("import of client and processor / opentelemetry.sdk.trace", goal=1.25, target=NO_TARGET)


def exit_row(folder: Path) -> Row:
    """Return what the exit of a script with one run into a new base takes beyond `os._exit`, from its last statement."""
    number = iter(range(1_000))

    def exit_ns(last: str) -> int:
        base = folder / str(next(number))
        done = child(ONE_RUN + last, environment={"TELEMETRY_BASE_DIR": str(base)})
        return done.ended_ns - int(done.output)

    pairs = [(exit_ns(""), exit_ns("os._exit(0)")) for _ in range(2 if FAST else 16)][1:]
    beyond = [(ours - theirs) / 1e6 for ours, theirs in pairs]
    p50, p99 = median(beyond), max(beyond)
    ours_ms, theirs_ms = (median(column) / 1e6 for column in zip(*pairs, strict=True))
    return Row(
        "exit of a script with one run into a new base - os._exit",
        SQLITE,
        f"{p50:.0f} ms",
        f"{p99:.0f} ms",
        goal_text(EXIT_GOAL_MS, unit=" ms"),
        verdict_of(p50, EXIT_GOAL_MS),
        f"{ours_ms:.0f}, {theirs_ms:.0f} ms",
    )
