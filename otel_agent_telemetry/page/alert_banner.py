"""The open alerts in the head of every page."""

from __future__ import annotations

from typing import Final, NamedTuple

from starlette.requests import Request

from otel_agent_telemetry.service.requests import backend_of
from otel_agent_telemetry.service.sessions import PageSession
from otel_agent_telemetry.service.tokens import READ

_NAMED: Final = 3


class Banner(NamedTuple):
    """How many alerts are open, and the rules of the newest of them."""

    alerts: int = 0
    rules: tuple[str, ...] = ()


def banner_for(request: Request, session: PageSession) -> Banner:
    """Return the banner of a page. Costs no query: the alerts are those of the last evaluation.

    Who may not read, and the service that evaluates nothing, gets an empty one.
    """
    if not session.may(READ):
        return Banner()
    still_open = backend_of(request).alerts.open
    return Banner(len(still_open), tuple(dict.fromkeys(alert.rule for alert in still_open))[:_NAMED])
