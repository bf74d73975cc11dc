"""What each agent used and cost in an audit's time, exact from its first to its last instant."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from sqlalchemy import Connection, func, select

from otel_agent_telemetry.clock import iso_utc, parse_iso
from otel_agent_telemetry.storage.figure_window import FigureWindow
from otel_agent_telemetry.storage.figures import DAY, figures_where
from otel_agent_telemetry.storage.priced_sums import Spending
from otel_agent_telemetry.storage.tables import agent_runs

_DAY_NS: Final = 86_400 * 1_000_000_000
_MOST_NS: Final = 3_660 * _DAY_NS
"""Ten years: how far back costs are added up. A clock that was wrong once would make millions of hours to look for."""
_created: Final = agent_runs.c.created_at


def spending_of_agents(connection: Connection, *, since: str | None, now_ns: int) -> dict[str, Spending]:
    """Return agent → what its runs that were created since an instant used; None is from the oldest run on.

    `now_ns`: nanoseconds since 1970; runs that are dated up to a day after it, by another host's clock, count too.
    Reads the sums that are kept for whole days, and each run of the day on which the time begins.
    """
    begin = since or connection.execute(select(func.min(_created))).scalar()
    if begin is None:
        return {}
    since_ns = max(parse_iso(begin), now_ns - _MOST_NS)
    midnight_ns = -(-since_ns // _DAY_NS) * _DAY_NS
    # Hours are kept for three days only: of an older day that the time begins in, no sum could be cut out.
    first_day = figures_where(connection, _created >= iso_utc(since_ns), _created < iso_utc(midnight_ns))
    windows = [
        FigureWindow(connection, (), [first_day], day=iso_utc(since_ns)[:DAY]),
        FigureWindow.between(connection, midnight_ns, now_ns + _DAY_NS, with_open=False),
    ]
    found: defaultdict[str, Spending] = defaultdict(Spending)
    for window in windows:
        for agent, spending in window.spending("agent").items():
            found[agent].include(spending)
    return found
