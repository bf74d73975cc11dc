"""What runs and events cost the application's thread, against a `BatchSpanProcessor` and against the bare SDK."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from otel_agent_telemetry import TelemetryClient, TelemetryConfig, instrument
from tests.bench import workloads
from tests.bench.pairs import (
    HTTP,
    NO_TARGET,
    SQLITE,
    Curve,
    Pairs,
    Ratio,
    Row,
    Times,
    goal_text,
    measured,
    scaled,
    timed,
    verdict_of,
)

RUNS_A_BURST = 1_000
PACED_RUNS = 200
PACE_S = 0.01
STATE, EVENT = b"x" * 900 + b"\n", b"x" * 300 + b"\n"
"""Lines as long as those of a run's state and of an event."""
OPEN_RUNS = (100, 10_000)
ATTRIBUTE_COUNTS = (10, 100, 1_000)
EVENT_COUNTS = (10, 1_000, 10_000)


class Side(NamedTuple):
    """A tracer, and what waits until its background work is done."""

    tracer: Any
    flush: Callable[[], object]

    def burst(self, action: Callable[[Any], object], times: int, pause_s: float = 0.0) -> Times:
        """Measure many calls in a row, or with a pause after each; then flush, unmeasured."""
        taken = timed(lambda: action(self.tracer), scaled(times), (lambda: time.sleep(pause_s)) if pause_s else None)
        self.flush()
        return taken


@contextmanager
def batch_side(endpoint: str) -> Iterator[Side]:
    """Yield a tracer with a BatchSpanProcessor whose exporter has a receiver."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint), max_queue_size=100_000))
    yield Side(provider.get_tracer("bench"), lambda: provider.force_flush(30_000))
    provider.shutdown()


@contextmanager
def our_side(config: TelemetryConfig) -> Iterator[tuple[Side, TelemetryClient]]:
    """Yield a tracer that records to the target of `config`, and a client of the same provider."""
    provider = TracerProvider(shutdown_on_exit=False)
    assert instrument(config, tracer_provider=provider)  # what every entry point does
    client = TelemetryClient(config, tracer_provider=provider)
    yield Side(provider.get_tracer("bench"), lambda: client.flush(30.0)), client
    client.close()
    provider.shutdown()


def bare_tracer() -> Any:
    """Return a tracer without any processor."""
    return TracerProvider(shutdown_on_exit=False).get_tracer("bench")


def run_rows(config: TelemetryConfig, endpoint: str) -> Iterator[Ratio | Row]:
    """Yield what a run costs, of each form, in bursts and paced."""
    with batch_side(endpoint) as theirs, our_side(config) as (ours, client):
        pairs = _runs(ours, theirs, workloads.run, workloads.run)
        yield pairs.ratio("a run, 10 attributes and 3 events / BatchSpanProcessor + OTLP", goal=1.75)
        yield pairs.ratio("the same, the slowest in a burst", goal=1.3, judged=0.99)
        yield floor_ratio(theirs, config.base_dir)
        yield _runs(ours, theirs, workloads.varied_run, workloads.varied_run).ratio(
            "a run whose texts are new each time / the same", goal=1.75
        )
        yield _runs(ours, theirs, workloads.small_run, workloads.small_run).ratio(
            "a small run, 1 attribute and 3 events of 1 / the same", goal=1.75
        )
        yield _runs(ours, theirs, lambda _: workloads.client_run(client), workloads.run).ratio(
            "a run through TelemetryClient / the same", goal=2.0
        )
        yield _runs(ours, theirs, workloads.run_with_results, workloads.run_with_results).ratio(
            "a run with agent.run.* and attributes set before the end / the same", goal=2.0
        )
        yield _runs(ours, theirs, workloads.deep_run, workloads.deep_run, times=60).ratio(
            f"a run with {workloads.CHILD_SPANS} child spans / the same", goal=1.3
        )
        yield from paced_rows(ours, theirs)


def _runs(
    ours: Side,
    theirs: Side,
    our_run: Callable[[Any], None],
    their_run: Callable[[Any], None],
    times: int = RUNS_A_BURST,
) -> Pairs:
    return measured(lambda: ours.burst(our_run, times), lambda: theirs.burst(their_run, times))


def floor_ratio(theirs: Side, folder: Path) -> Ratio:
    """Return what the SDK alone and seven writes of constant bytes cost: no code of ours makes a run cheaper."""
    with (
        (folder / "journal-of-constants").open("ab", buffering=0) as journal,
        (folder / "buffer-of-constants").open("ab", buffering=0) as buffer,
    ):

        def run(tracer: Any) -> None:
            with tracer.start_as_current_span("invoke_agent researcher", attributes=workloads.ATTRIBUTES) as span:
                buffer.write(STATE), journal.write(STATE)
                for _ in range(3):
                    span.add_event("step", workloads.STEP)
                    journal.write(EVENT)
            buffer.write(STATE), journal.write(STATE)

        bare = Side(bare_tracer(), lambda: None)
        return _runs(bare, theirs, run, workloads.run).ratio(
            "the SDK alone and seven writes of constant bytes / the same", goal=None, target=NO_TARGET
        )


def paced_rows(ours: Side, theirs: Side) -> Iterator[Ratio | Row]:
    """Yield what a run costs at 100 a second; p99.9 is that of all samples, one burst being too short for it."""
    pairs = measured(
        lambda: ours.burst(workloads.run, PACED_RUNS, PACE_S),
        lambda: theirs.burst(workloads.run, PACED_RUNS, PACE_S),
    )
    yield pairs.ratio("a run, 100 a second / the same", goal=1.75)
    p999 = pairs.pooled_ratio(0.999)
    samples = sum(len(burst) for burst in pairs.ours)
    note = f"of {samples:,} samples each; the figure is p99.9"
    yield Row("the same, p99.9", SQLITE, "-", f"x{p999:.2f}", goal_text(1.0), verdict_of(p999, 1.0), note)


def service_row(config: TelemetryConfig, endpoint: str) -> Ratio:
    """Return what a run costs while it is delivered to a service in another process."""
    with batch_side(endpoint) as theirs, our_side(config) as (ours, _):
        return _runs(ours, theirs, workloads.run, workloads.run).ratio(
            "a run, 10 attributes and 3 events / the same", goal=1.75, target=HTTP
        )


def event_rows(config: TelemetryConfig) -> Iterator[Ratio]:
    """Yield what an event costs beside one of a bare span, both in a span that stays open for the burst."""
    bare = bare_tracer()
    with our_side(config) as (ours, client):

        def in_span(tracer: Any, flush: Callable[[], object]) -> Times:
            with tracer.start_as_current_span("invoke_agent researcher", attributes=workloads.ATTRIBUTES) as span:
                taken = timed(lambda: span.add_event("step", workloads.STEP), scaled(5_000))
            flush()
            return taken

        def in_client_run() -> Times:
            with client.track_run("researcher", "job") as run:
                taken = timed(lambda: run.log_event("step", workloads.STEP), scaled(5_000))
            client.flush(30.0)
            return taken

        theirs = partial(in_span, bare, lambda: None)
        yield measured(partial(in_span, *ours), theirs).ratio("an event of 3 attributes / bare add_event", goal=1.3)
        yield measured(in_client_run, theirs).ratio("log_event with 3 attributes / bare add_event", goal=1.3)


def attribute_rows(config: TelemetryConfig, endpoint: str) -> Iterator[Ratio | Curve]:
    """Yield the growth with the number of attributes; a span of the SDK keeps the last 128."""
    ratios = []
    with batch_side(endpoint) as theirs, our_side(config) as (ours, _):
        for count in ATTRIBUTE_COUNTS:
            run = partial(workloads.wide_run, attributes=workloads.wide(count))
            name = f"a run with {count:,} attributes / BatchSpanProcessor + OTLP"
            ratios.append(_runs(ours, theirs, run, run, times=40_000 // count).ratio(name, goal=2.0))
            yield ratios[-1]
    yield Curve("attributes, a run", ATTRIBUTE_COUNTS, ratios)


def many_event_rows(config: TelemetryConfig, endpoint: str) -> Iterator[Ratio | Curve]:
    """Yield the growth with the number of events in a run."""
    ratios = []
    with batch_side(endpoint) as theirs, our_side(config) as (ours, _):
        for count in EVENT_COUNTS:
            run = partial(workloads.long_run, events=count)
            name = f"a run with {count:,} events / BatchSpanProcessor + OTLP"
            times = max(20_000 // count, 3)
            ratios.append(_runs(ours, theirs, run, run, times).ratio(name, goal=None if count < 10_000 else 1.3))
            yield ratios[-1]
    yield Curve("events, an event", EVENT_COUNTS, ratios, units_a_run=True)


def open_run_rows(config_of: Callable[[str], TelemetryConfig]) -> Iterator[Ratio | Curve]:
    """Yield what a run costs beside others that stay open, against one beside none."""
    counts = [0, *map(scaled, OPEN_RUNS)]
    ratios = []
    for count in counts:
        with our_side(config_of(f"none-{count}")) as (alone, _), our_side(config_of(f"open-{count}")) as (beside, _):
            held = [_open_run(beside.tracer, number) for number in range(count)]
            beside.flush()
            pairs = _runs(beside, alone, workloads.run, workloads.run, times=1_000)
            ratios.append(pairs.ratio(f"a run beside {count:,} open runs / beside none", goal=1.1))
            yield ratios[-1]
            for span in held:
                span.end()
    yield Curve("open runs beside it, a run", counts, ratios)


def _open_run(tracer: Any, number: int) -> Any:
    return tracer.start_span("invoke_agent researcher", attributes=workloads.ATTRIBUTES | {"number": number})
