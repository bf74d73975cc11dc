"""What a service answered with 2xx, held against what its database has."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import Connection, select, text

from otel_agent_telemetry import TelemetryConfig
from otel_agent_telemetry.storage.counts import check_counts
from otel_agent_telemetry.storage.rollups import rollups_of
from otel_agent_telemetry.storage.store import Store
from otel_agent_telemetry.storage.tables import agent_runs, run_events, run_spans
from tests.durability.service_writers import TOKENS, Book


def assert_all_kept(book: Book, config: TelemetryConfig) -> int:
    """How many runs are stored: each at least as far as it was kept, none further than it was told.

    The same for spans; counts and roll-ups are exact.
    """
    assert not book.strange, book.strange[:5]
    store = Store(config)
    store.open()
    try:
        with store.reading() as connection:
            if connection.dialect.name == "sqlite":
                assert connection.execute(text("pragma integrity_check")).scalar() == "ok"
            assert check_counts(connection) == []
            _assert_spans(book, connection)
            return _assert_runs(book, connection)
    finally:
        store.close()


def _assert_runs(book: Book, connection: Connection) -> int:
    columns = agent_runs.c
    rows = connection.execute(select(columns.event_id, columns.items_succeeded)).all()
    stored = {row.event_id: row.items_succeeded for row in rows}
    assert len(stored) == len(rows), "a run stands in two rows"
    lost = {run: number for run, number in book.kept.items() if stored.get(run, -1) < number}
    assert not lost, f"{len(lost)} runs lost a state that was answered 2xx: {list(lost.items())[:5]}"
    invented = {run: number for run, number in stored.items() if number > book.told.get(run, -1)}
    assert not invented, f"states that nobody told: {list(invented.items())[:5]}"
    return len(rows)


def _assert_spans(book: Book, connection: Connection) -> None:
    spans = [span_id for (span_id,) in connection.execute(select(run_spans.c.span_id))]
    stored = set(spans)
    assert len(stored) == len(spans), "a span stands in two rows"
    assert book.spans_kept <= stored, f"{len(book.spans_kept - stored)} spans answered 2xx are lost"
    assert stored <= book.spans_told, "spans that nobody sent"
    events = Counter(connection.execute(select(run_events.c.span_id)).scalars())
    assert {span_id for span_id in stored if events[span_id] != 1} == set(), "events lost or twice"
    rollups = rollups_of(connection, book.traces_kept)
    tokens = Counter(rollups[run].steps.get("input_tokens") for run in book.traces_kept)
    assert tokens.keys() <= {3 * TOKENS}, f"steps counted twice or not at all: {tokens}"
