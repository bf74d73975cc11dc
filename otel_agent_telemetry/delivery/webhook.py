"""Posting the summary of each ended run to a webhook, such as a Google Sheets script.

How one is posted is `posting`'s. How it went is one more state of the run (`api_posted`, `api_posted_at`,
`api_retry_count`) and takes the ordinary way to the target.

Posting happens behind delivery, in a thread that lives while there is something to post,
and at least once: a deliverer that is killed may have its last batch posted again.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Final

import orjson

from otel_agent_telemetry.clock import Clock, iso_utc
from otel_agent_telemetry.columns import JSON_COLUMNS, POSTING_COLUMNS, Fields
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.counters import Counters
from otel_agent_telemetry.delivery.http_connection import HttpConnection
from otel_agent_telemetry.delivery.posting import post, webhook_connection
from otel_agent_telemetry.delivery.suppress_instrumentation import suppress_instrumentation
from otel_agent_telemetry.run_totals import with_totals
from otel_agent_telemetry.status import RUNNING

_QUEUE: Final = 10_000
_SUMMARY_LEFT_OUT: Final = frozenset({"record_type", "error_details", *POSTING_COLUMNS, *JSON_COLUMNS})


class Webhook:
    """Posts ended runs. `post` never blocks; `on_posted` is called with each run's new state.

    `sleep` waits between attempts; by default it ends early when the webhook is closed.
    """

    def __init__(
        self,
        config: TelemetryConfig,
        *,
        clock: Clock,
        counters: Counters,
        on_posted: Callable[[Fields], None],
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._counters = counters
        self._on_posted = on_posted
        self._sleep = sleep or self._wait
        self._waiting: queue.Queue[Fields | None] = queue.Queue(_QUEUE)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def _wait(self, seconds: float) -> None:
        """Wait between two attempts; stopping ends the wait."""
        self._stop.wait(seconds)

    def post(self, states: Sequence[Fields]) -> None:
        """Take the ended runs among these that were not posted yet. Never blocks; a full queue is counted."""
        for state in states:
            # The outcome of a posting is a state too and comes back here: what was tried is not tried again.
            if state["status"] == RUNNING or state.get("api_posted") or state.get("api_retry_count"):
                continue
            try:
                self._waiting.put_nowait(state)
            except queue.Full as problem:
                self._counters.failed("posting", problem)
        if self._thread is None and not self._waiting.empty():
            # A thread of its own, so that a slow webhook never delays a delivery.
            self._thread = threading.Thread(target=self._work, name="agent-telemetry-webhook", daemon=True)
            # Its own thread: a slow webhook must not delay the delivery to the target.
            self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Post what is waiting for at most `timeout_s`, then give the rest up."""
        if self._thread is None:
            return
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            # The sentinel found no room. The flag ends the thread after the posting it is at.
            self._stop.set()
        self._thread.join(timeout_s)
        self._stop.set()
        self._thread = None

    def _work(self) -> None:
        """Post the runs that wait until told to stop: the thread of the webhook."""
        connection = webhook_connection(self._config.sheets_url or "", self._config.sheets_token, self._config)
        with suppress_instrumentation():
            while (state := self._waiting.get()) is not None and not self._stop.is_set():
                try:
                    self._on_posted(self._post_one(connection, state))
                # Broad on purpose: one state that cannot be posted must not end the posting of all others.
                except Exception as problem:  # this thread's outer edge
                    self._counters.internal("posting", problem)
            connection.close()

    def _post_one(self, connection: HttpConnection, state: Fields) -> Fields:
        """Post one run, with retries; return its state with how that went."""
        body = orjson.dumps(summary_of(state))
        posted = post(connection, body, sleep=self._sleep, is_stopped=self._stop.is_set)
        if not posted.problem:
            done = {"api_posted": 1, "api_posted_at": iso_utc(self._clock.now_ns())}
            return {**state, **done, **({"api_retry_count": posted.retries} if posted.retries else {})}
        self._counters.warn("posting", "run %s was not posted: %s", state["run_id"], posted.problem)
        return {**state, "api_retry_count": max(posted.retries, 1)}


def summary_of(state: Fields) -> Fields:
    """Return the summary fields of a run without nulls and without the large columns."""
    return {name: value for name, value in with_totals(state).items() if name not in _SUMMARY_LEFT_OUT}
