"""Write to the database: what one batch holds, in which order it is written, and when a transaction is retried.

Everything that writes runs, associations or spans comes through `write_batch`, so that locks
are taken in one order. A `Store` gives each batch a transaction of its own and tries it again
while that may help. Owns neither the statements (`runs`, `traces`) nor the schema (`schema`).

`reading_database` is the other door: it opens the configured database for reading only, and
never creates, upgrades or locks it for long.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import chain
from typing import TypeVar

from sqlalchemy import Connection, Engine
from tenacity import (
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_attempt,
    stop_when_event_set,
    wait_exponential,
)

from otel_agent_telemetry.clock import SystemClock, iso_utc, parse_iso
from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.deliverer_report import DelivererReport
from otel_agent_telemetry.errors import SchemaError, StoreUnavailableError
from otel_agent_telemetry.model import CommitLink
from otel_agent_telemetry.storage.counts import needs_vacuum, pack_counts, vacuum_counts
from otel_agent_telemetry.storage.database_file import roll_back_torn_commit
from otel_agent_telemetry.storage.deletions import lines_to_keep, without_deleted
from otel_agent_telemetry.storage.deliverers import note_deliverers
from otel_agent_telemetry.storage.engine import (
    database_name,
    make_engine,
    make_read_engine,
    reading,
    sqlite_path,
    writing,
)
from otel_agent_telemetry.storage.journal_lines import write_lines
from otel_agent_telemetry.storage.last_calls import decide_statuses
from otel_agent_telemetry.storage.plumbing import Signs, mark_plumbing
from otel_agent_telemetry.storage.rows import UNCHANGED, WriteOutcome
from otel_agent_telemetry.storage.run_keys import dissolve, joined, known_keys
from otel_agent_telemetry.storage.run_logs import RunLog, settle_logs, write_logs
from otel_agent_telemetry.storage.runs import RunState, fields_of, link_commits, lock_links, upsert_runs
from otel_agent_telemetry.storage.schema import SchemaReport, database_state, ensure_schema
from otel_agent_telemetry.storage.session_metrics import SessionFigure, write_figures
from otel_agent_telemetry.storage.span_agents import parts_among, set_adopted_names
from otel_agent_telemetry.storage.span_membership import own_event_id
from otel_agent_telemetry.storage.span_places import Key
from otel_agent_telemetry.storage.statements import plain_sql
from otel_agent_telemetry.storage.steps import EventLine, SpanRow
from otel_agent_telemetry.storage.traces import SpanNode, lock_traces, write_traces
from otel_agent_telemetry.storage.turn_steps import prefer_spans_of
from otel_agent_telemetry.storage.turn_traces import as_steps, give_way, runs_of_turns
from otel_agent_telemetry.storage.turns import write_turns
from otel_agent_telemetry.turns import TurnRecord

T = TypeVar("T")

_MAX_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class WriteBatch:
    """What is written in one transaction. `nodes` are spans; the states of their runs are in `records`.

    `lines` are events and steps from a journal, `reports` what deliverers say of themselves, `logs` log
    records of runs, `turn_records` those of coding agents' sessions, `figures` what metrics count of sessions.
    """

    records: Sequence[RunState] = ()
    links: Sequence[CommitLink] = ()
    nodes: Sequence[SpanNode] = ()
    lines: Sequence[EventLine | SpanRow] = ()
    reports: Sequence[DelivererReport] = ()
    logs: Sequence[RunLog] = ()
    turn_records: Sequence[TurnRecord] = ()
    figures: Sequence[SessionFigure] = ()

    def __len__(self) -> int:
        """Return the number of items of all kinds."""
        return sum(len(getattr(self, part.name)) for part in fields(self))


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What became of a batch: the outcome of each record, and for each link whether its run is stored."""

    outcomes: tuple[WriteOutcome, ...] = ()
    linked: tuple[bool, ...] = ()

    def count(self, outcome: WriteOutcome) -> int:
        """Return how many records had this outcome."""
        return self.outcomes.count(outcome)

    def split(self, batches: Sequence[WriteBatch]) -> Iterator[WriteResult]:
        """Yield the result of each of the batches that were merged into the one that this is the result of."""
        record = link = 0
        for batch in batches:
            records, links = record + len(batch.records), link + len(batch.links)
            yield WriteResult(self.outcomes[record:records], self.linked[link:links])
            record, link = records, links


def merged_batch(batches: Sequence[WriteBatch]) -> WriteBatch:
    """Return one batch of several, in their order."""
    parts = (part.name for part in fields(WriteBatch))
    return WriteBatch(*(tuple(chain.from_iterable(getattr(batch, part) for batch in batches)) for part in parts))


def write_batch(connection: Connection, batch: WriteBatch, *, received_at: str | None = None) -> WriteResult:
    """Write a batch within the connection's transaction.

    `received_at`: when a service got it; of a run's states the first one's stays. Raises the
    driver's errors, see `engine.translated`.
    """
    received = {} if received_at is None else {"received_at": received_at}
    states = [{**fields_of(run), **received} for run in batch.records]
    keys = _span_ids(states, batch.nodes)
    traces = _lock(connection, batch, {trace_id for trace_id, _ in keys})
    nodes = without_deleted(connection, batch.nodes)
    # The runs that such spans are: one that records have made is deleted under another id than its span gives.
    late = _runs_that_are(batch.nodes) - _runs_that_are(nodes) if len(nodes) < len(batch.nodes) else set()
    outcomes, changed = _write_runs(connection, states, nodes, keys, late)
    # Behind the states: a line that names its run by the run id alone has to find it.
    if batch.lines and (lines := lines_to_keep(connection, batch.lines)):
        write_lines(connection, lines)
    now = received_at or iso_utc(SystemClock().now_ns())
    if batch.reports:
        note_deliverers(connection, batch.reports, now=now)
    # Behind the spans: a turn joins the run of its span where that has come.
    if batch.turn_records:
        write_turns(connection, batch.turn_records, now_ns=parse_iso(now), received_at=received_at)
    if batch.figures:
        write_figures(connection, batch.figures)
    if batch.logs:
        write_logs(connection, batch.logs, now=now)
    # Also without a log record: one that waits may belong to a span or run that has come now.
    settle_logs(connection, traces, {state["run_id"] for state in changed} | {log.run_id for log in batch.logs})
    return WriteResult(tuple(outcomes), tuple(link_commits(connection, batch.links)))


def _lock(connection: Connection, batch: WriteBatch, traces: set[str]) -> set[str]:
    """Take all locks of a batch, whose runs and spans have these traces; return the traces of all its parts.

    Before the first row is read or written, and in one order: two writers never deadlock.
    """
    traces |= {line.span.trace_id for line in batch.lines if isinstance(line, SpanRow)}
    traces |= {log.trace_id for log in batch.logs if log.trace_id}
    traces |= {record.trace_id for record in batch.turn_records if record.trace_id}
    stretches = {record.stretch for record in batch.turn_records}
    lock_links(connection, shared=not batch.links)
    lock_traces(connection, traces | stretches, shared=not (batch.nodes or batch.logs or batch.turn_records))
    return traces


def _write_runs(
    connection: Connection, states: Sequence[Fields], nodes: Sequence[SpanNode], keys: set[Key], late: set[str]
) -> tuple[list[WriteOutcome], list[Fields]]:
    """Write states and spans; return what became of each state, and those that have changed a row.

    `keys`: the ids of their spans. `late`: the `event_id` of runs whose states are not written.
    """
    signs = Signs()
    signs.note_states(states)
    nodes, turns, were_runs = as_steps(connection, nodes)
    # After the locks: a run that is being made for these ids in another transaction is visible from here on.
    known = known_keys(connection, keys)
    if known:
        steps = {known[node.key] for node in nodes if not node.is_run and node.key in known}
        gone = steps - runs_of_turns(connection, steps)
        dissolve(connection, gone)
        known = {key: event_id for key, event_id in known.items() if event_id not in gone}
        give_way(connection, states, known)
        states = joined(connection, states, known)
    outcomes = _upsert(connection, states, parts_among(connection, nodes) | were_runs | late)
    # Updated runs too: the first state of a run need not have named its trace.
    changed = [state for state, outcome in zip(states, outcomes, strict=True) if outcome not in UNCHANGED]
    write_traces(connection, nodes, changed, known_keys=known, turns=turns)
    if of_coding_agents := {node.span.trace_id for node in nodes if node.is_from_coding_agent}:
        prefer_spans_of(connection, of_coding_agents)
    if nodes:
        set_adopted_names(connection, nodes, changed)
        if any(node.last_call_decides for node in nodes):
            decide_statuses(connection, nodes, changed)
        signs.note_nodes(nodes, known)
    # Behind the spans: a run that has got a model call in this very batch is no plumbing.
    mark_plumbing(plain_sql(connection), signs)
    return outcomes, changed


def _span_ids(states: Sequence[Fields], nodes: Sequence[SpanNode]) -> set[Key]:
    """Return the trace and span ids of all spans and states of a batch; a state may have no span id, as ""."""
    keys = {node.key for node in nodes}
    for state in states:
        if trace_id := state.get("trace_id"):
            keys.add((trace_id, state.get("span_id") or ""))
    return keys


def _runs_that_are(nodes: Sequence[SpanNode]) -> set[str]:
    """Return the `event_id` of the runs that spans are."""
    return {own_event_id(node.identity) for node in nodes if node.is_run}


def _upsert(connection: Connection, states: Sequence[Fields], steps: set[str]) -> list[WriteOutcome]:
    """Write states, but for those of spans that have turned out to be steps; return what became of each."""
    if not steps:
        return upsert_runs(connection, states)
    outcomes = iter(upsert_runs(connection, [state for state in states if state["event_id"] not in steps]))
    return ["duplicate" if state["event_id"] in steps else next(outcomes) for state in states]


class Store:
    """The configured database, written by this process. Used by one thread at a time.

    Keeps one engine from `open` to `close`.
    Raises ConfigurationError at once for a URL that cannot be used; touches nothing before `open`.
    `stop`, once set, ends all waiting between attempts.
    """

    def __init__(self, config: TelemetryConfig, *, stop: threading.Event | None = None) -> None:
        self._config = config
        self._stop = stop or threading.Event()
        self._engine = make_engine(config)
        self.name = database_name(self._engine)
        """The database without credentials, for messages."""
        self.path = sqlite_path(self._engine)
        """The file of a SQLite database, None for any other."""

    def open(self) -> SchemaReport:
        """Make the database ready: created, upgraded or found current.

        Raises SchemaError at once, StoreUnavailableError after the configured attempts.
        """
        report: SchemaReport = self._attempts()(ensure_schema, self._engine, self._config)
        if self._engine.dialect.name == "postgresql":  # lines that writers left which ended before they packed
            self.transact(pack_counts)
        return report

    def write(self, records: Sequence[RunState], links: Sequence[CommitLink] = ()) -> WriteResult:
        """Write a batch in one transaction; on return it is committed, on an error none of it is.

        Blocks for the busy timeout of each attempt. Raises StoreUnavailableError when every
        attempt failed, SchemaError, or StorageError when the database refuses a value.
        """
        return self.transact(lambda connection: write_batch(connection, WriteBatch(records, links)))

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Return what `work` returns, in one transaction; on return it is committed, on an error none of it is.

        Tried again as `write` is, so `work` may run several times. Blocks and raises as `write` does.
        """
        returned: T = self._attempts()(self._transact, work)
        return returned

    def _transact(self, work: Callable[[Connection], T]) -> T:
        """Do the work in one transaction, and pack the counts after it when they need it."""
        with writing(self._engine, "writing runs to") as connection:
            returned = work(connection)
            packed = needs_vacuum(connection)
        if packed:  # after the commit: VACUUM runs in no transaction
            vacuum_counts(self._engine)
        return returned

    def _attempts(self) -> Retrying:
        """Return the policy of retries: only for errors that may pass, and not after `stop`."""
        return Retrying(
            stop=stop_after_attempt(1 + self._config.db_max_retries) | stop_when_event_set(self._stop),
            wait=wait_exponential(multiplier=self._config.db_retry_base_delay_s, max=_MAX_WAIT_S),
            # A refused value or a foreign schema is refused again at once: waiting would only delay the report.
            retry=retry_if_exception_type(StoreUnavailableError),
            sleep=sleep_using_event(self._stop),
            reraise=True,
        )

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a consistent view for the functions of `queries`. Raises StorageError."""
        with reading(self._engine, "reading") as connection:
            yield connection

    def close(self) -> None:
        """Close every connection. Idempotent; `open` and `write` would open new ones."""
        self._engine.dispose()


@contextmanager
def reading_database(config: TelemetryConfig) -> Iterator[Connection | None]:
    """Yield a consistent view for the functions of `storage.queries`; None when there is no database yet.

    Raises SchemaError for a database of another application or of an older schema, which is
    not changed, and StoreUnavailableError when it cannot be read now. Blocks for the busy
    timeout on a locked database. An OSError raised inside the block becomes a StorageError,
    so callers print nothing inside it.
    """
    engine = _engine(config)
    try:
        if engine is None:
            yield None
            return
        with reading(engine, "reading") as connection:
            yield connection if _is_current(connection) else None
    finally:
        # A reader of one call keeps no connection: an open one would hold the file of a database that is moved away.
        if engine is not None:
            engine.dispose()


def _engine(config: TelemetryConfig) -> Engine | None:
    """Return an engine that can be read from now; None when the file is missing."""
    engine = make_read_engine(config)
    path = sqlite_path(engine)
    if path is None:
        return engine
    if not path.exists():
        return None
    # A read-only connection could not, and would fail until the next writer comes.
    roll_back_torn_commit(config, path)
    return engine


def _is_current(connection: Connection) -> bool:
    """Return False for an empty database. Raises SchemaError unless the schema is this version's."""
    state = database_state(connection)
    if state in ("version_7", "older"):
        raise SchemaError(
            f"reading {database_name(connection.engine)}: its schema is older than this version",
            hint="`agent-telemetry init-db` upgrades it, after a backup.",
        )
    return state == "current"
