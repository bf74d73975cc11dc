"""What a run used and was not known when it ended: a later state of the run brings it.

Steps that end after their run.
"""

from __future__ import annotations

from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.otel.mapping import json_object
from otel_agent_telemetry.recording.active_runs import ActiveRun
from otel_agent_telemetry.recording.recorder import Recorder
from otel_agent_telemetry.usage import USAGE_KEY
from otel_agent_telemetry.wire import dumps_text


class PendingUsage:
    """Writes what the ended runs of one recorder used since. Never waits."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def write(self, run: ActiveRun) -> None:
        """Write what an ended run used, as far as it is known now, unless its last state says so already."""
        metrics = json_object(run.fields.get("metrics_json") or "{}")
        written = metrics.get(USAGE_KEY)
        metrics[USAGE_KEY] = dict(sorted({**run.usage.shown(), **run.reported_usage}.items()))
        if metrics[USAGE_KEY] == written:
            return
        updated_at = iso_utc(run.next_update_ns(self._recorder.clock.now_ns()))
        run.state = {**run.state, "metrics_json": dumps_text(metrics), "updated_at": updated_at}
        self._recorder.record_run(run.fields)
