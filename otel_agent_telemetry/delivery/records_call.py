"""`POST /api/v1/records` of a service: lines of a journal as they stand on disk, and whether the service takes them.

`/version` is asked until it answers, and again when the service was away, refused lines, or answers for another
database: `records` names the version of the call, `store` the database. A service that names neither is of an
earlier version and takes states alone.

Lines are refused one by one in an answer of 200. A 413 means that there were too many, and halves
are tried; one line by itself is given up. Any other refusal is not about a line, and all wait.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any, Final

from otel_agent_telemetry.deliverer_report import DelivererReport
from otel_agent_telemetry.delivery.http_connection import Answer
from otel_agent_telemetry.delivery.journal_cursor import JournalCursor
from otel_agent_telemetry.delivery.outcome import Delivered, Rejected, RetryLater
from otel_agent_telemetry.wire import load_object

_PATH: Final = "/api/v1/records"
_VERSION: Final = 1
_OK: Final = 200
_TOO_LARGE: Final = 413
_SETTLES: Final = frozenset({400, 404, 405, _TOO_LARGE, 415, 422})
_TYPE: Final = {"Content-Type": "application/x-ndjson"}
_LEVEL: Final = 1
_MAX_REASON: Final = 500


Request = Callable[..., Answer | RetryLater]
"""Sends one request as `HttpTarget` does: method, path, `body`, `headers`; statuses in `settles` are answers."""


class RecordsCall:
    """The call of one service. `compresses`: whether bodies go through a network and are worth compressing."""

    def __init__(self, name: str, request: Request, *, compresses: bool) -> None:
        self._name = name
        self._request = request
        self._compresses = compresses
        self._store: str | None = None
        self._is_asked = False

    def store(self) -> str | RetryLater | None:
        """Return the id of the service's database; None for a service without this call."""
        if not self._is_asked:
            answer = self._request("GET", "/version", settles=_SETTLES, headers={})
            if isinstance(answer, RetryLater):
                return answer
            described = (load_object(answer.content) if answer.status == _OK else None) or {}
            store, version = described.get("store"), described.get("records")
            # The store names a file of the cursor: an answer of anything else must not choose its name.
            is_known = type(version) is int and version >= _VERSION and JournalCursor.is_store(store)
            self._store, self._is_asked = (store if is_known else None), True
        return self._store

    def deliver(self, body: bytes, report: DelivererReport) -> Delivered | RetryLater:
        """Send lines. Blocks up to the configured timeout a request."""
        headers: dict[str, str | bytes] = {**_TYPE, **report.to_headers()}
        sent = body
        if self._compresses and body:
            sent, headers["Content-Encoding"] = gzip.compress(body, _LEVEL), "gzip"
        answer = self._request("POST", _PATH, body=sent, settles=_SETTLES, headers=headers)
        if isinstance(answer, RetryLater):
            self._is_asked = False  # while it was away its database may have been restored or replaced
            return answer
        if answer.status == _TOO_LARGE:
            return self._halves(body, report, answer)
        if answer.status != _OK:
            self._is_asked = False  # it may be another service by now, or one that was set back
            return RetryLater(f"{self._name} answered {answer.status} to lines of the journal")
        account: dict[str, Any] = load_object(answer.content) or {}
        # A connection may outlive the restart of what is behind a proxy. Services of earlier versions name no store.
        if self._is_asked and account.get("store", self._store) != self._store:
            self._is_asked = False
            return RetryLater(f"{self._name} has another database since it was asked")
        return _confirmed(self._name, account, sent=body.count(b"\n"))

    def _halves(self, body: bytes, report: DelivererReport, answer: Answer) -> Delivered | RetryLater:
        """Send a body that was too large in two parts; of a single line it is the line that is too large."""
        lines = body.removesuffix(b"\n").split(b"\n")
        if len(lines) <= 1:
            # A proxy's limit may be raised, so a line is given up in the service's own words only.
            detail = (load_object(answer.content) or {}).get("detail")
            reason = f"{self._name} answered {_TOO_LARGE} to a single line"
            return Delivered((Rejected(0, detail[:_MAX_REASON]),)) if isinstance(detail, str) else RetryLater(reason)
        half = len(lines) // 2
        refused: list[Rejected] = []
        for start, part in ((0, lines[:half]), (half, lines[half:])):
            outcome = self.deliver(b"\n".join(part) + b"\n", report)
            if isinstance(outcome, RetryLater):
                return outcome
            refused += (Rejected(start + item.position, item.reason) for item in outcome.rejected)
        return Delivered(tuple(refused))


def _confirmed(name: str, account: dict[str, Any], *, sent: int) -> Delivered | RetryLater:
    """Return what an answer confirms. A captive portal answers 200 too: only a full account is believed."""
    try:
        refused = tuple(Rejected(int(one["line"]) - 1, str(one["reason"])[:_MAX_REASON]) for one in account["refused"])
        is_full = account["lines"] == sent and all(0 <= item.position < sent for item in refused)
    except (KeyError, TypeError, ValueError):
        is_full = False
    return Delivered(refused) if is_full else RetryLater(f"{name} answered 200, but not with an account of the lines")
