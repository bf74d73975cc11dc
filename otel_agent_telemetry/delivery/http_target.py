"""A telemetry service as a target: `POST /api/v1/runs/batch` (contract, "HTTP service").

Commit associations go to `POST /api/v1/commits` by run id; a service that does not have that
call is asked for the run's event id first, and an association whose run it does not know is
set aside then.

A batch counts as delivered only when the answer says so in full: 200, with numbers that add
up to what was sent. Everything else is either later (network, 5xx, 429, 401, 403, an answer
that is not ours) or the batch's own fault (other 4xx, in the service's words), which halves
find. A proxy may refuse a batch for its size: halves are tried then too, but no record is given up.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from otel_agent_telemetry.columns import JSON_COLUMNS
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.deliverer_report import DelivererReport
from otel_agent_telemetry.delivery.http_connection import (
    MAX_ANSWER,
    Answer,
    Headers,
    HttpConnection,
    Unreachable,
)
from otel_agent_telemetry.delivery.outcome import (
    Batch,
    Delivered,
    Outcome,
    Rejected,
    RetryLater,
    deliver_bisected,
    is_link,
)
from otel_agent_telemetry.delivery.records_call import RecordsCall
from otel_agent_telemetry.errors import DeliveryError
from otel_agent_telemetry.interpreter import importing
from otel_agent_telemetry.urls import without_credentials
from otel_agent_telemetry.wire import RUN, Line, load_json

_REFUSALS: Final = frozenset({400, 413, 415, 422})
_NO_SUCH_CALL: Final = frozenset({404, 405})
_TOO_LARGE: Final = frozenset({413})
_OK: Final = 200


class HttpTarget:
    """Sends batches to one service. The token goes to that URL only: redirects are not followed."""

    has_states = False

    def __init__(self, url: str, config: TelemetryConfig) -> None:
        self.name = without_credentials(url)
        headers: Headers = {"Content-Type": "application/json", **bearer(config.api_auth_token)}
        self._connection = HttpConnection(url, config, headers=headers, timeout_s=config.api_timeout_s)
        self._records = RecordsCall(self.name, self._request, compresses=not self._connection.is_local)

    def deliver(self, batch: Batch) -> Outcome:
        """Send the runs, then the commit associations. Blocks up to the configured timeout a request.

        Returns `RetryLater` at the first request that gets no verdict: what was sent before is sent again then, and the
        service counts it as duplicates. Never raises for anything that the service does.
        """
        # Runs first: the service associates a commit at once only with a run that it has.
        rejected: list[Rejected] = []
        runs = [at for at, line in enumerate(batch.lines) if line["record_type"] == RUN]
        if runs:
            outcome = self._deliver_runs(Batch(tuple(batch.lines[at] for at in runs)))
            if isinstance(outcome, RetryLater):
                return outcome
            rejected += (Rejected(runs[item.position], item.reason) for item in outcome.rejected)
        links = [at for at, line in enumerate(batch.lines) if is_link(line)]
        if links:
            answers = self._deliver_links([batch.lines[at] for at in links])
            if isinstance(answers, RetryLater):
                return answers
            rejected += (Rejected(links[position], reason) for position, reason in answers.items())
        return Delivered(tuple(rejected))

    def store(self) -> str | RetryLater | None:
        """Return the id of the service's database, None when it takes no lines of a journal; asked once."""
        return self._records.store()

    def deliver_lines(self, body: bytes, report: DelivererReport) -> Delivered | RetryLater:
        """Send lines of a journal. Blocks up to the configured timeout a request."""
        return self._records.deliver(body, report)

    def _deliver_runs(self, batch: Batch) -> Outcome:
        """Send runs as one batch; of one that is refused as a whole, halves, down to the record at fault."""
        body = orjson.dumps([_body(line) for line in batch.lines])
        # Whoever answers 413 to a batch gets smaller ones. A single record is refused by a 413 only in the
        # service's own words, since a proxy's limit may be raised.
        divisible = _TOO_LARGE if len(batch) > 1 else frozenset()
        answer = self._request("POST", "/api/v1/runs/batch", body=body, settles=divisible)
        if isinstance(answer, RetryLater):
            return answer
        if answer.status in _REFUSALS:
            return deliver_bisected(self, batch, _described(answer))
        try:
            return _confirmed(_json(answer), len(batch))
        # A captive portal or a wrong address also answers 200: without a full account nothing is confirmed.
        except DeliveryError as problem:
            return RetryLater(f"{self.name} answered {answer.status}, but {problem}")

    def _deliver_links(self, links: Sequence[Line]) -> RetryLater | dict[int, str]:
        """Associate commits by run id: position → why one never will be, else when to try again."""
        body = orjson.dumps([{"run_id": link["run_id"], **link["payload"]} for link in links])
        answer = self._request("POST", "/api/v1/commits", body=body, settles=_NO_SUCH_CALL)
        if isinstance(answer, RetryLater):
            return answer
        if answer.status in _REFUSALS and len(links) == 1:
            return {0: _described(answer)}
        if answer.status != _OK:  # a service without that call, or one that refuses the batch as a whole
            return self._deliver_each(links, by_event_id=answer.status in _NO_SUCH_CALL)
        try:
            return _links_refused(_json(answer), len(links))
        except DeliveryError as problem:
            return RetryLater(f"{self.name} answered {answer.status}, but {problem}")

    def _deliver_each(self, links: Iterable[Line], *, by_event_id: bool) -> RetryLater | dict[int, str]:
        """Associate commits one by one: position → why one never will be, else when to try again."""
        refused: dict[int, str] = {}
        for position, link in enumerate(links):
            if by_event_id:
                answer = self._deliver_link(link)
            else:
                answers = self._deliver_links((link,))
                answer = answers if isinstance(answers, RetryLater) else answers.get(0, "")
            if isinstance(answer, RetryLater):
                return answer
            if answer:
                refused[position] = answer
        return refused

    def _deliver_link(self, link: Line) -> RetryLater | str:
        """Associate one commit by its run's event id: "" when done, a sentence when never, else later."""
        # For services older than `POST /api/v1/commits`.
        query = urlencode({"run_id": link["run_id"], "limit": "1"})
        found = self._request("GET", f"/api/v1/runs?{query}")
        if isinstance(found, RetryLater):
            return found
        if found.status in _REFUSALS:
            return _described(found)
        runs = _list_or_none(found)
        if runs is None:
            return RetryLater(f"{self.name} answered {found.status}, but not with a list of runs")
        if not runs:
            return f"no run {link['run_id']!r} is known to {self.name}"
        body = {
            name: value
            for name in ("commit_hash", "commit_source", "commit_author", "commit_timestamp")
            if (value := link["payload"].get(name)) is not None
        }
        path = f"/api/v1/runs/{runs[0].get('event_id')}/associate-commit"
        done = self._request("POST", path, body=orjson.dumps(body))
        if isinstance(done, RetryLater):
            return done
        return "" if done.status == _OK else _described(done)

    def _request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        settles: frozenset[int] = frozenset(),
        headers: Headers | None = None,
    ) -> Answer | RetryLater:
        """Return an answer that settles something (200, a refusal, `settles`), else when to try again."""
        answer = self._connection.request(method, path, body=body, headers=headers)
        if isinstance(answer, Unreachable):
            return RetryLater(f"{self.name} cannot be reached: {answer.reason}")
        if answer.status == _OK or answer.status in settles or _is_refusal(answer):
            return answer
        # A proxy's 400 or 422 is no verdict on our records: only a body in our own error form refuses.
        if answer.status in _REFUSALS:
            return RetryLater(f"{self.name} answered {answer.status}, but not in the words of this service")
        return RetryLater(f"{self.name} answered {_described(answer)}", after_s=retry_after_s(answer.retry_after))

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()


def bearer(token: str | None) -> dict[str, bytes]:
    """Return the `Authorization` header of a token, none without one; a token in any script goes as UTF-8."""
    return {"Authorization": b"Bearer " + token.encode(errors="replace")} if token else {}


def is_our_service(url: str, *, timeout_s: float = 1.0) -> bool:
    """Return whether what answers `GET {url}/version` on this machine names itself as this service. Sends no token.

    Blocks up to `timeout_s` seconds. False for anything else that listens there, as development servers do at this
    port.
    """
    connection = HttpConnection(url, TelemetryConfig(), headers={}, timeout_s=timeout_s)
    answer = connection.request("GET", "/version")
    connection.close()
    if isinstance(answer, Unreachable) or answer.status != _OK:
        return False
    try:
        value = orjson.loads(answer.content)
    except ValueError:
        return False
    # Both names: "version" alone is what many services answer.
    return isinstance(value, dict) and {"version", "schema_version"} <= value.keys()


def is_open(url: str, *, timeout_s: float = 1.0) -> bool:
    """Return whether a service lets anybody read its runs. Sends no token.

    Blocks up to `timeout_s` seconds. `doctor` warns of a service that is open beyond this machine.
    """
    connection = HttpConnection(url, TelemetryConfig(), headers={}, timeout_s=timeout_s)
    answer = connection.request("GET", "/api/v1/runs?limit=1")
    connection.close()
    return not isinstance(answer, Unreachable) and answer.status == _OK


def retry_after_s(header: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for: a number or an HTTP date; None without.

    RFC 9110, section 10.2.3. A date in the past is no wait.
    """
    if not header:
        return None
    try:
        seconds = float(header)
        # `float` takes "inf" and "nan", which would stop the delivery for good.
        return max(seconds, 0.0) if math.isfinite(seconds) else None
    except ValueError:
        pass
    with importing():
        import email.utils

    try:
        return max(email.utils.parsedate_to_datetime(header).timestamp() - time.time(), 0.0)
    except ValueError:
        return None


def _body(line: Line) -> dict[str, Any]:
    """Return a state as the service takes it: defaults left out, JSON columns as objects."""
    body = {name: value for name, value in line.items() if name != "record_type"}
    for name in JSON_COLUMNS & body.keys():
        value = load_json(body[name], {"text": body[name]})
        # The service takes objects only; a text that is not one is wrapped, so that the record is not refused for it.
        body[name] = value if isinstance(value, dict) else {"value": value}
    return body


def _confirmed(answer: Any, sent: int) -> Delivered:
    """Return what a batch answer confirms. Raises DeliveryError unless it accounts for everything sent."""
    if not isinstance(answer, dict):
        raise DeliveryError("not with an object")
    try:
        errors = list(answer["errors"])
        settled = sum(_count(answer[name]) for name in ("inserted", "updated", "duplicates"))
        rejected = tuple(Rejected(int(e["index"]), str(e.get("reason", "refused"))[:500]) for e in errors)
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise DeliveryError(f"the counts cannot be read ({type(problem).__name__})") from None
    refused = {item.position for item in rejected}
    if settled + len(refused) != sent or not all(0 <= position < sent for position in refused):
        raise DeliveryError(f"it accounts for {settled + len(refused)} of {sent} records")
    return Delivered(rejected)


def _links_refused(answer: Any, sent: int) -> dict[int, str]:
    """Return position → why an association is refused. Raises DeliveryError unless the answer accounts for all."""
    try:
        refused = {int(e["index"]): str(e.get("reason", "refused"))[:500] for e in answer["errors"]}
        settled = _count(answer["linked"]) + _count(answer["pending"])
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise DeliveryError(f"the counts cannot be read ({type(problem).__name__})") from None
    if settled + len(refused) != sent or not all(0 <= position < sent for position in refused):
        raise DeliveryError(f"it accounts for {settled + len(refused)} of {sent} associations")
    return refused


def _count(value: Any) -> int:
    """Return a count of an answer. Raises ValueError for a negative one."""
    count = int(value)
    if count < 0:
        raise ValueError("a count is not negative")
    return count


def _json(answer: Answer) -> Any:
    """Return the JSON of an answer. Raises DeliveryError."""
    if len(answer.content) > MAX_ANSWER:
        raise DeliveryError("the answer is too large")
    try:
        return orjson.loads(answer.content)
    except ValueError:
        raise DeliveryError("not with JSON") from None


def _list_or_none(answer: Answer) -> list[dict[str, Any]] | None:
    """Return the list of objects in an answer; None when it holds anything else."""
    try:
        value = _json(answer)
    except DeliveryError:
        return None
    return value if isinstance(value, list) and all(isinstance(item, dict) for item in value) else None


def _is_refusal(answer: Answer) -> bool:
    """Return whether the service will never take what was sent. Anything else may answer these statuses too."""
    return answer.status in _REFUSALS and _explains(_detail(answer))


def _explains(detail: Any) -> bool:
    """Text, or the list of findings in which an older service leaves a body that it cannot read."""
    if isinstance(detail, list):
        return bool(detail) and all(isinstance(item, dict) and isinstance(item.get("msg"), str) for item in detail)
    return isinstance(detail, str)


def _detail(answer: Answer) -> Any:
    """Return the text of an error (contract, "HTTP service"); None when it is not one of ours."""
    try:
        value = _json(answer)
    except DeliveryError:
        return None
    return value.get("detail") if isinstance(value, dict) else None


def _described(answer: Answer) -> str:
    """Return the status and the text of an answer, short enough for a log line."""
    return f"{answer.status} {str(_detail(answer) or '')[:300]}".strip()
