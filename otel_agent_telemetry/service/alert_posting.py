"""A thread of the service that posts the notices about alerts to the webhook of `TELEMETRY_ALERTS_URL`.

Notices wait in a table, so that a restart neither loses nor repeats one: only a service that is killed between
the webhook's answer and the commit that notes it sends one again, under the same `id`. Each is tried as every
webhook is (`delivery.posting`); while the webhook is away it is tried again with each evaluation, for an hour.
"""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import Final

from otel_agent_telemetry.clock import Clock, iso_utc, parse_iso
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.http_connection import HttpConnection
from otel_agent_telemetry.delivery.posting import post, webhook_connection
from otel_agent_telemetry.delivery.suppress_instrumentation import suppress_instrumentation
from otel_agent_telemetry.errors import StorageError
from otel_agent_telemetry.service.responses import OverloadedError
from otel_agent_telemetry.service.service_thread import ServiceThread
from otel_agent_telemetry.service.writer import GroupWriter
from otel_agent_telemetry.storage.alert_state import Notice, claim_notices, finish_notice

_log: Final = logging.getLogger(__name__)
_NS: Final = 1_000_000_000
_GIVEN_UP_S: Final = 3_600
_LOOK_S: Final = 30.0
_STOP_TIMEOUT_S: Final = 5.0


class AlertPosting:
    """Posts what waits, when it is woken and every 30 seconds. Does nothing without a webhook."""

    def __init__(self, config: TelemetryConfig, writer: GroupWriter, *, clock: Clock) -> None:
        self._config = config
        self._writer = writer
        self._clock = clock
        self._woken = threading.Event()
        self._thread = ServiceThread(self._run, name="alert-notices", stop_timeout_s=_STOP_TIMEOUT_S)

    def start(self) -> None:
        """Start the thread, where there is a webhook."""
        if self._config.alerts_url is not None:
            self._thread.start()

    def stop(self) -> None:
        """End the thread. Idempotent. Blocks up to 5 s."""
        # In this order: a thread that is woken first would wait again.
        self._thread.stopping.set()
        self._woken.set()
        self._thread.stop()

    def wake(self) -> None:
        """Look for notices now."""
        self._woken.set()

    def _run(self) -> None:
        assert self._config.alerts_url is not None, "the thread runs only with a webhook"
        connection = webhook_connection(self._config.alerts_url, self._config.alerts_token, self._config)
        with suppress_instrumentation():
            while not self._thread.stopping.is_set():
                try:
                    self._post_all(connection)
                except (StorageError, OverloadedError) as problem:
                    # What was claimed is free again after some minutes.
                    _log.warning("notices of alerts wait: %s", problem)
                self._woken.wait(_LOOK_S)
                self._woken.clear()
        connection.close()

    def _post_all(self, connection: HttpConnection) -> None:
        """Post the notices that wait. Raises StorageError, OverloadedError."""
        stopping = self._thread.stopping
        claim = partial(claim_notices, now_ns=self._clock.now_ns())
        for notice in self._writer.commit(claim, stopping=stopping) or ():
            if stopping.is_set():
                return
            posted = post(connection, notice.body.encode(), sleep=stopping.wait, is_stopped=stopping.is_set)
            now_ns = self._clock.now_ns()
            is_done = not posted.problem or posted.is_final or _is_old(notice, now_ns)
            if posted.problem:
                left = "given up" if is_done else "tried again"
                _log.warning("notice %s-%s is %s: %s", notice.alert_id, notice.state, left, posted.problem)
            done_at = iso_utc(now_ns) if is_done else None
            finish = partial(finish_notice, notice=notice, now=done_at, problem=posted.problem)
            # Also while the service stops: what was posted must not be posted again by the next one.
            self._writer.commit(finish, stopping=threading.Event())


def _is_old(notice: Notice, now_ns: int) -> bool:
    """Return whether a notice has been tried for long enough."""
    return now_ns - parse_iso(notice.made_at) > _GIVEN_UP_S * _NS
