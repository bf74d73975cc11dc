"""The client of the seed documents: explicit runs, as a facade over a tracer.

A run takes the way `client → span → processor → recorder → journal and buffer`, as runs of
other tracers do. No public method raises. None blocks but `flush`, `close` and `get_stats`,
each up to its timeout. Sources: seed 001, contract "Client".
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from opentelemetry.trace import TracerProvider

from otel_agent_telemetry import status as st
from otel_agent_telemetry.caller_values import (
    event_attributes,
    given_summary,
    kept_payload,
    split_settings,
    word_of,
)
from otel_agent_telemetry.client_spans import TRACER, RunSpans, record_exception
from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.column_checks import plain_text
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.delivery.suppress_instrumentation import suppress_instrumentation
from otel_agent_telemetry.errors import RecordError
from otel_agent_telemetry.interpreter import importing
from otel_agent_telemetry.otel.endings import ending_of_exception
from otel_agent_telemetry.otel.live_span import LiveSpan, add_plain_event
from otel_agent_telemetry.otel.provider import choose, private, use_system_ids
from otel_agent_telemetry.otel.spans import EventPayload, remote_parent
from otel_agent_telemetry.outer_edge import never_raises, print_line, report
from otel_agent_telemetry.recording.active_runs import ActiveRun
from otel_agent_telemetry.recording.recorder import Recorder
from otel_agent_telemetry.redaction import kept_name, kept_run_id
from otel_agent_telemetry.run_context import RunContext, TrackedRun
from otel_agent_telemetry.run_id import generate_run_id
from otel_agent_telemetry.wire import bounded_repr

if TYPE_CHECKING:
    from otel_agent_telemetry.argument_types import CommitSource, EndSettings, EndStatus, StartSettings, TriggerType

_log = logging.getLogger(__name__)
_NO_RUN: str | None = None


class TelemetryClient:
    """Records runs explicitly. Cheap to make: clients of one configuration share everything.

        client = TelemetryClient()
        run_id = client.start_run("my_agent", "process_files")
        client.end_run(run_id, "success", items_succeeded=10)

    `config`: default `TelemetryConfig.from_env()`; its warnings are logged.
    `tracer_provider`: default the global one when it is the SDK's, else a private one. A
    provider is never replaced. A run that it does not sample is recorded with the private one.
    Safe under threads and after a fork. A copy is the client itself; a pickled client records
    nothing where it is unpickled, and warns once.
    """

    _off_because = ""
    """Why nothing is recorded, where that is not the configuration's wish; empty once it was logged."""

    def __init__(self, config: TelemetryConfig | None = None, *, tracer_provider: TracerProvider | None = None) -> None:
        self.config = config if isinstance(config, TelemetryConfig) else TelemetryConfig.from_env()
        for message in self.config.validate()[1]:
            if self.config is config or message not in self.config.warnings:  # those are logged
                _log.warning("%s", message)
        provider, self._processor = choose(self.config, tracer_provider)
        try:
            self._tracer = provider.get_tracer(TRACER)
        except Exception:  # the application's provider needs something that the environment names wrongly
            provider, self._processor = private(self.config)
            self._tracer = provider.get_tracer(TRACER)
        use_system_ids(self._tracer)
        self._recorder = self._processor.recorder
        self._active = self._processor.active
        started_in = remote_parent(self.config.trace_parent)
        self._spans = RunSpans(self.config, self._tracer, self._recorder, started_in=started_in)

    def __copy__(self) -> TelemetryClient:
        return self

    def __deepcopy__(self, _memo: object) -> TelemetryClient:
        return self

    def __getstate__(self) -> dict[str, bool]:
        return {"is_elsewhere": True}  # files and threads belong to this process

    def __setstate__(self, _state: object) -> None:
        """Become a client that records nothing and warns once when it is used. Opens nothing, reads no environment."""
        self.config = TelemetryConfig(base_dir=Path(os.devnull), sdk_disabled=True, discover_service=False)
        self._recorder = Recorder.shared(self.config)
        self._active = self._recorder.active
        self._off_because = "a TelemetryClient that came through pickle records nothing: make one in each process"

    def _is_off(self) -> bool:
        """Return whether nothing is recorded; log why, once, where somebody might expect otherwise."""
        if self._off_because:
            _log.warning("%s", self._off_because)
            self._off_because = ""
        return self.config.sdk_disabled

    # --- runs

    def start_run(
        self, agent_name: str, job_type: str, trigger_type: TriggerType = "cli", **kwargs: Unpack[StartSettings]
    ) -> str:
        """Begin a run and return its id; on return the run survives the death of the process.

        `run_id=` asks for a custom id. Other names are columns of the run, or go to
        `context_json`. When something fails inside: `"error-"` and an id.

            run_id = client.start_run("indexer", "index_folder", "scheduler", environment="production")

        Returns after one append each to journal and buffer; waits for no network, database or lock. Never raises.
        """
        return self._begin(agent_name, job_type, trigger_type, kwargs)[0]

    def track_run(
        self, agent_name: str, job_type: str, trigger_type: TriggerType = "cli", **kwargs: Unpack[StartSettings]
    ) -> TrackedRun:
        """Return a context manager (`with` or `async with`) that begins a run and ends it with the block.

        Entering it returns a `RunContext`. An exception of the block ends the run and propagates.

            with client.track_run("indexer", "index_folder") as run:
                run.set_metrics(items_discovered=10)

        The block's exception decides the status: `timeout` for timeouts, `cancelled` for cancellation and Ctrl-C, else
        `failed`.
        """
        return TrackedRun(
            functools.partial(self._begin_tracked, agent_name, job_type, trigger_type, kwargs), self._finish
        )

    def _begin_tracked(
        self, agent_name: str, job_type: str, trigger_type: str, kwargs: Mapping[str, Any]
    ) -> tuple[RunContext, ActiveRun | None]:
        """Begin the run of a `with` block."""
        run_id, run = self._begin(agent_name, job_type, trigger_type, kwargs)
        return RunContext(run_id, self.log_event, self._set_metrics), run

    def end_run(self, run_id: str, status: EndStatus = st.SUCCESS, **kwargs: Unpack[EndSettings]) -> None:
        """End a run, from any thread. An id that is not open here is a warning on stderr.

        `status`: `success`, `failed`, `partial`, `timeout` or `cancelled`, or an alias; any other word is stored as
        `failed`. Keyword arguments are columns of the run, or go to `context_json`. Never raises.

            client.end_run(run_id, "failed", error_summary="the disk is full", items_failed=3)
        """
        try:
            if self._is_off():
                return
            run = self._active.get(run_id)
            if run is None or not self._active.is_mine(run):
                shown = kept_run_id(run_id) if isinstance(run_id, str) else bounded_repr(run_id)
                print_line(f"[WARN] Run ID not found: {shown}")
                return
            self._spans.end(run, status, kwargs)
        except Exception as problem:  # the outer edge
            report("ERROR", "end_run", problem)

    def log_event(self, run_id: str, event_type: str, payload: Mapping[str, Any] | None = None) -> None:
        """Keep an event of a run; on return it survives the death of the process.

        An event of a run that is not open here (another process's, or ended) is kept under
        its run id alone.

        `payload`: JSON values; what is none is kept as its text. Secrets in it are masked, and it is cut at 1 MiB
        (`TELEMETRY_MAX_EVENT_BYTES`). Never raises.

            client.log_event(run_id, "checkpoint", {"page": 12})
        """
        try:
            run = self._active.get(run_id)
            span = run.span if run is not None else None
            if (
                type(span) is LiveSpan
                and type(payload) is dict
                and payload  # an empty one is kept as such, where a span's event has none
                and add_plain_event(span, event_type, payload, self._recorder.clock.now_ns())
            ):
                return
            if not self._is_off():
                self._log_any_event(run_id, span, event_type, payload)
        except Exception as problem:  # the outer edge
            report("WARN", "log_event", problem)

    def _log_any_event(self, run_id: str, span: Any, event_type: Any, payload: Any) -> None:
        """Keep an event of any type and payload: of an open run on its span, else in the journal alone."""
        kept, now_ns = kept_payload(payload, max_bytes=self.config.max_event_bytes), self._recorder.clock.now_ns()
        event_type = event_type if type(event_type) is str else word_of(event_type, "event")
        if span is not None and span.is_recording():
            span.add_event(event_type, EventPayload(event_attributes(kept), kept), now_ns)
            return
        about = {"run_id": kept_run_id(run_id), "event_type": kept_name(event_type)}
        self._recorder.record_event({**about, "timestamp": iso_utc(now_ns), "payload": kept})

    @never_raises("ERROR", (False, "[ERROR] associate_commit failed"))
    def associate_commit(
        self,
        run_id: str,
        commit_hash: str,
        commit_source: CommitSource,
        commit_author: str | None = None,
        commit_timestamp: str | None = None,
    ) -> tuple[bool, str]:
        """Record which commit a run made: while it is open, later, or from another process.

        Return `(True, message)` once the association is kept, else `(False, message)`. It
        reaches the run's row with the next delivery, also when the run's own state comes later.

        `commit_hash`: 7 to 64 hex digits. `commit_timestamp`: ISO 8601 with a zone. Waits for no network.

            kept, message = client.associate_commit(run_id, "a1b2c3d", "ci")
        """
        with importing():
            from otel_agent_telemetry.model import CommitLink

        try:
            link = CommitLink(
                run_id=kept_run_id(run_id),
                commit_hash=commit_hash,
                commit_source=commit_source,
                commit_author=kept_name(commit_author) if type(commit_author) is str else commit_author,
                commit_timestamp=commit_timestamp,
                associated_at=self._recorder.now_iso(),
            )
        except RecordError as problem:
            return False, f"[ERROR] associate_commit failed: {problem}"
        if not self._is_off():
            self._recorder.record_commit(link)
        return True, f"Commit {commit_hash} associated with run {kept_run_id(run_id)}"

    # --- figures

    @never_raises("ERROR", {"error": "Statistics unavailable"})
    def get_stats(self) -> dict[str, Any]:
        """Return `total_runs`, `agents`, `recent_24h` and the run-id metrics.

        From the service, else from the local database. Blocks for one request or one query.
        """
        with importing():
            from otel_agent_telemetry.delivery.stats import read_stats

        with suppress_instrumentation():
            stats = read_stats(self.config)
        if stats.problem is not None:
            _log.warning("statistics: %s", stats.problem)
        return {**(stats.figures or {"error": "Statistics unavailable"}), **self.get_run_id_metrics()}

    @never_raises("ERROR", {"error": "Run ID metrics unavailable"})
    def get_run_id_metrics(self) -> dict[str, Any]:
        """Return the counts of custom, generated and rejected run ids since the process began (seed 001)."""
        return self._active.metrics.get_snapshot()

    @never_raises("WARN", None)
    def log_run_id_metrics(self) -> None:
        """Log the run-id metrics at INFO."""
        self._active.metrics.log_metrics()

    @never_raises("WARN", fallback=False)
    def flush(self, timeout_s: float = 5.0) -> bool:
        """Return whether everything recorded so far has reached its target. Blocks up to `timeout_s` seconds.

        For tests and for programs that hand the data on at once; runs are kept without it.
        """
        return self._recorder.flush(timeout_s)

    @never_raises("WARN", None)
    def close(self) -> None:
        """Deliver within the exit timeout and stop the background. Idempotent; a later run begins anew.

        Blocks up to `TELEMETRY_EXIT_TIMEOUT_S` (2 s). The interpreter's exit does the same, so most programs need not
        call it.
        """
        self._recorder.close()

    # --- inside

    def _begin(
        self, agent_name: str, job_type: str, trigger_type: str, kwargs: Mapping[str, Any]
    ) -> tuple[str, ActiveRun | None]:
        """Start a run; return its id and, unless recording is off or failed, the run itself."""
        name = "unknown"
        try:
            name = word_of(agent_name, name)
            if self._is_off():
                return str(kwargs.get("run_id") or generate_run_id(name)), None
            run = self._spans.start(name, word_of(job_type, "unknown"), word_of(trigger_type, "cli"), kwargs)
        except Exception as problem:  # the outer edge of start_run and track_run
            report("ERROR", "start_run", problem)
            return "error-" + generate_run_id(name), None
        return run.run_id if not run.is_lost else self._note_lost(run), run

    def _note_lost(self, run: ActiveRun) -> str:
        """Report a run whose first state could not be kept, and return its id; what is recorded of it later may be."""
        run_id = f"error-{run.run_id}"
        self._active.note_lost(run, run_id)
        print_line(f"[ERROR] Telemetry start_run failed: nothing could be kept; {self._recorder.counters.last_error}")
        return run_id

    @never_raises("ERROR", _NO_RUN)
    def _record_ended(
        self, agent: str, job: str, trigger: str, *, status: str, start_ns: int, end_ns: int, settings: dict[str, Any]
    ) -> str | None:
        """Record a run that has ended already and return its id; None when recording is off or failed."""
        if self._is_off():
            return None
        run = self._spans.start(agent, job, trigger, settings, start_ns=start_ns)
        self._spans.end(run, status, {}, end_ns=end_ns)
        return run.run_id

    def _finish(self, run: ActiveRun, problem: BaseException | None) -> None:
        """End a tracked run with its block's exception, or with the status that was set. Never raises."""
        try:
            if run.ended or not self._active.is_mine(run):  # the parent process of a fork ends what it began
                return
            if problem is None:
                self._spans.end(run, st.SUCCESS if run.status is None else run.status, {})
                return
            ending = ending_of_exception(problem)
            if ending.status != st.SUCCESS:
                record_exception(run.span, problem, ending)
            summary = {"error_summary": ending.summary} if ending.summary else {}
            self._spans.end(run, ending.status, {**summary, **given_summary(run.settings, summary)})
        except Exception as failure:  # the outer edge of __exit__
            report("ERROR", "end_run", failure)

    @never_raises("WARN", None)
    def _set_metrics(self, run_id: str, metrics: Mapping[str, Any]) -> None:
        """Take metrics of an open run and write its state."""
        run = self._active.get(run_id)
        if self._is_off() or run is None or not self._active.is_mine(run):
            return
        settings, extra = split_settings(metrics)
        run.status = plain_text(extra.pop("status", run.status))
        run.update_settings(settings, extra)
        self._processor.write_update(run)


__all__ = ["RunContext", "TelemetryClient"]
