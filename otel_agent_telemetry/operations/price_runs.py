"""Compute the cost of stored runs again and keep it in their rows, with a note of what changed.

A cost is worked out when a run is read (`storage.pricing`). Kept in `cost_usd` it stays what it is
when prices change, and SQL has it. It is no part of a run's state: a later state of the run
empties it, and reading works it out anew.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, NamedTuple

from sqlalchemy import Connection, text

from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.storage.database_file import only_writer
from otel_agent_telemetry.storage.pricing import cost_of_run, price_sources, use_own_prices
from otel_agent_telemetry.storage.queries import page_of_runs
from otel_agent_telemetry.storage.rows import Cursor
from otel_agent_telemetry.storage.run_filters import RunQuery
from otel_agent_telemetry.storage.store import Store, reading_database

_PAGE: Final = 500
_MAX_SHOWN: Final = 1000
_SET_COST: Final = text("UPDATE agent_runs SET cost_usd = :cost WHERE event_id = :event_id")


@dataclass(frozen=True, slots=True)
class CostChange:
    """A run whose stored cost changed, in US dollars; None is not known."""

    run_id: str
    event_id: str
    model: str | None
    before: float | None
    after: float | None


@dataclass(slots=True)
class PriceReport:
    """What was computed: the prices that were used, the number of runs with a cost, and what changed.

    `changes` are the first thousand of `changed`.
    """

    sources: tuple[str, ...]
    priced: int = 0
    unpriced: int = 0
    """Runs that called a model and have no cost."""
    changed: int = 0
    before_usd: float = 0.0
    after_usd: float = 0.0
    changes: list[CostChange] = field(default_factory=list)

    def add(self, page: _PricedPage) -> None:
        """Add what was computed for a page."""
        self.priced += page.priced
        self.unpriced += page.unpriced
        self.changed += len(page.changes)
        self.before_usd += sum(one.before or 0.0 for one in page.changes)
        self.after_usd += sum(one.after or 0.0 for one in page.changes)
        self.changes += page.changes[: _MAX_SHOWN - len(self.changes)]


class _PricedPage(NamedTuple):
    """What was computed for one page of runs, and where the next page begins; None after the last."""

    changes: list[CostChange]
    priced: int
    unpriced: int
    following: Cursor | None


def price_runs(config: TelemetryConfig, query: RunQuery, *, dry_run: bool = False) -> PriceReport | None:
    """Compute the cost of a query's runs and store it, unless `dry_run`; None when there is no database yet.

    Each page of 500 runs is one transaction. Raises StorageError, and ConfigurationError for
    the file of `TELEMETRY_PRICES`.
    """
    use_own_prices(config.prices)
    report = PriceReport(price_sources())
    query = replace(query, limit=_PAGE, offset=0, cursor=None, priced=False)
    with reading_database(config) as connection:
        if connection is None:
            return None
        if dry_run:
            _price_pages(lambda page: _priced_page(connection, page), query, report)
            return report
    store = Store(config)
    try:
        with nullcontext() if store.path is None else only_writer(store.path, doing="pricing the runs of"):
            _price_pages(lambda page: store.transact(partial(_write_page, query=page)), query, report)
    finally:
        store.close()
    return report


def _price_pages(price: Callable[[RunQuery], _PricedPage], query: RunQuery, report: PriceReport) -> None:
    """Price page after page and add them to the report."""
    page = price(query)
    report.add(page)
    while page.following is not None:
        page = price(replace(query, cursor=page.following))
        report.add(page)


def _write_page(connection: Connection, query: RunQuery) -> _PricedPage:
    """Price a page and store what changed, within the connection's transaction."""
    # Read within the writing transaction: a state that comes meanwhile must not get the cost of the one before.
    page = _priced_page(connection, query)
    if page.changes:
        connection.execute(_SET_COST, [{"cost": one.after, "event_id": one.event_id} for one in page.changes])
    return page


def _priced_page(connection: Connection, query: RunQuery) -> _PricedPage:
    """Compute the costs of a page."""
    runs = page_of_runs(connection, query)
    costs = [(run.record, cost_of_run(run.record)) for run in runs]
    changes = [
        CostChange(record.run_id, record.event_id, record.model, record.cost_usd, cost)
        for record, cost in costs
        if cost != record.cost_usd
    ]
    priced = sum(cost is not None for _, cost in costs)
    unpriced = sum(cost is None and record.model_calls > 0 for record, cost in costs)
    return _PricedPage(changes, priced, unpriced, runs[-1].cursor if len(runs) == query.limit else None)
