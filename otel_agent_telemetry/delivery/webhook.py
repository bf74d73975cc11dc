"""Posting the summary of each ended run to a webhook, such as a Google Sheets script.

Contract, "External posting": four attempts at most, 1, 2 and 4 s apart, on 5xx, 429 and
network errors; none after another 4xx. How it went is one more state of the run
(`api_posted`, `api_posted_at`, `api_retry_count`) and takes the ordinary way to the target.

Posting happens behind delivery, in a thread that lives while there is something to post,
and at least once: a deliverer that is killed may have its last batch posted again.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import httpx
import orjson

from otel_agent_telemetry.clock import Clock, iso_utc
from otel_agent_telemetry.columns import JSON_COLUMNS, POSTING_COLUMNS
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.counters import Counters
from otel_agent_telemetry.delivery.http_calls import FAILURES, bearer, told
from otel_agent_telemetry.delivery.http_target import retry_after_s
from otel_agent_telemetry.delivery.outcome import RetryLater
from otel_agent_telemetry.delivery.retry import posting
from otel_agent_telemetry.delivery.suppress_instrumentation import suppress_instrumentation
from otel_agent_telemetry.model import RunRecord

_QUEUE: Final = 10_000
_SUMMARY_LEFT_OUT: Final = frozenset({"error_details", *POSTING_COLUMNS, *JSON_COLUMNS})


class Webhook:
    """Posts ended runs. `post` never blocks; `on_posted` hears of each run's new state.

    `sleep` waits between attempts; by default it ends early when the webhook is closed.
    """

    def __init__(
        self,
        config: TelemetryConfig,
        *,
        clock: Clock,
        counters: Counters,
        on_posted: Callable[[RunRecord], None],
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self._url = config.sheets_url or ""
        self._token = config.sheets_token
        self._clock = clock
        self._counters = counters
        self._on_posted = on_posted
        self._sleep = sleep
        self._waiting: queue.Queue[RunRecord | None] = queue.Queue(_QUEUE)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def post(self, records: Sequence[RunRecord]) -> None:
        """Take the ended runs among these that were not posted yet. Never blocks; a full queue is counted."""
        for record in records:
            if not record.ended or record.api_posted or record.api_retry_count:
                continue
            try:
                self._waiting.put_nowait(record)
            except queue.Full as problem:
                self._counters.failed("posting", problem)
        if self._thread is None and not self._waiting.empty():
            self._thread = threading.Thread(target=self._work, name="agent-telemetry-webhook", daemon=True)
            self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Post what is waiting for at most `timeout_s`, then give the rest up."""
        if self._thread is None:
            return
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            self._stop.set()
        self._thread.join(timeout_s)
        self._stop.set()
        self._thread = None

    def _work(self) -> None:
        with suppress_instrumentation(), httpx.Client(timeout=10.0, follow_redirects=False) as client:
            while (record := self._waiting.get()) is not None and not self._stop.is_set():
                try:
                    self._on_posted(self._post_one(client, record))
                except Exception as problem:  # this thread's outer edge
                    self._counters.internal("posting", problem)

    def _post_one(self, client: httpx.Client, record: RunRecord) -> RunRecord:
        retrying = posting(self._stop, self._sleep)
        outcome = retrying(self._attempt, client, record)
        retries = max(int(retrying.statistics.get("attempt_number", 1)) - 1, 0)
        if outcome is None:
            return replace(record, api_posted=1, api_posted_at=iso_utc(self._clock.now_ns()), api_retry_count=retries)
        self._counters.warn("posting", "run %s was not posted: %s", record.run_id, outcome.reason)
        return replace(record, api_retry_count=max(retries, 1))

    def _attempt(self, client: httpx.Client, record: RunRecord) -> RetryLater | _GivenUp | None:
        headers = {b"Content-Type": b"application/json", **bearer(self._token)}
        try:
            answer = client.post(self._url, content=orjson.dumps(summary_of(record)), headers=headers)
        except FAILURES as problem:
            return RetryLater(told(problem))
        status = answer.status_code
        if status < 400:  # noqa: PLR2004 - a script host answers 302 when it has taken the row
            return None
        if status == 429 or status >= 500:  # noqa: PLR2004
            return RetryLater(f"answer {status}", after_s=retry_after_s(answer.headers.get("Retry-After")))
        return _GivenUp(f"answer {status}")


class _GivenUp:
    """The webhook will never take this run."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def summary_of(record: RunRecord) -> dict[str, object]:
    """The summary fields of a run without nulls and without the large columns."""
    return {name: value for name, value in record.to_fields().items() if name not in _SUMMARY_LEFT_OUT}
