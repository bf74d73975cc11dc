"""What is written together: run states, commit associations, received spans; one order for all of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from sqlalchemy import Connection

from otel_agent_telemetry.model import CommitLink, RunRecord
from otel_agent_telemetry.storage.runs import WriteOutcome, link_commits, lock_links, upsert_runs
from otel_agent_telemetry.storage.traces import SpanNode, lock_traces, write_traces


@dataclass(frozen=True, slots=True)
class WriteBatch:
    """Things to be kept in one transaction. `nodes` are spans; the states of their runs are in `records`."""

    records: Sequence[RunRecord] = ()
    links: Sequence[CommitLink] = ()
    nodes: Sequence[SpanNode] = ()

    def __len__(self) -> int:
        return len(self.records) + len(self.links) + len(self.nodes)


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What became of a batch, by position: of each record, and of each link whether its run is there."""

    outcomes: tuple[WriteOutcome, ...] = ()
    linked: tuple[bool, ...] = ()

    def count(self, outcome: WriteOutcome) -> int:
        """How many records ended so."""
        return self.outcomes.count(outcome)

    def parts(self, batches: Sequence[WriteBatch]) -> Iterator[WriteResult]:
        """The result of each of the batches that were merged into the one that this is the result of."""
        record = link = 0
        for batch in batches:
            records, links = record + len(batch.records), link + len(batch.links)
            yield WriteResult(self.outcomes[record:records], self.linked[link:links])
            record, link = records, links


def merged_batch(batches: Sequence[WriteBatch]) -> WriteBatch:
    """One batch of several, in their order."""
    return WriteBatch(
        tuple(chain.from_iterable(batch.records for batch in batches)),
        tuple(chain.from_iterable(batch.links for batch in batches)),
        tuple(chain.from_iterable(batch.nodes for batch in batches)),
    )


def write_batch(connection: Connection, batch: WriteBatch) -> WriteResult:
    """Keep a batch within the connection's transaction. Raises the driver's errors, see `errors_of.translated`."""
    lock_links(connection, shared=not batch.links)
    traces = {record.trace_id for record in batch.records if record.trace_id}
    lock_traces(connection, traces | {node.span.trace_id for node in batch.nodes}, shared=not batch.nodes)
    outcomes = upsert_runs(connection, batch.records)
    # updated ones too: the first state of a run need not have named its trace
    told = [run for run, outcome in zip(batch.records, outcomes, strict=True) if outcome != "duplicate"]
    write_traces(connection, batch.nodes, told)
    return WriteResult(tuple(outcomes), tuple(link_commits(connection, batch.links)))
