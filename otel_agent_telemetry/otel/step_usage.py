"""Where what a step used goes when the step ends: to the open step around it, else to its run.

A model call inside a model call is one call, and so is a tool call inside a tool call, whichever
ends first. What ends after its run is written in a later state of the run.

On the application's thread. Takes no lock: of two threads that end neighbouring steps, each
usage goes to one of them.
"""

from __future__ import annotations

from typing import Final

from otel_agent_telemetry import status as st
from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.columns import Fields
from otel_agent_telemetry.otel.endings import Ending, error_fields
from otel_agent_telemetry.otel.live_span import OpenSpan
from otel_agent_telemetry.otel.mapping import json_object
from otel_agent_telemetry.otel.usage_accumulator import MAX_APART, CountedCall, shrink, take_inside
from otel_agent_telemetry.recording.active_runs import ActiveRun
from otel_agent_telemetry.recording.recorder import Recorder
from otel_agent_telemetry.usage import USAGE_KEY, Usage, failure_of_last_call, folded, is_call
from otel_agent_telemetry.wire import dumps_text

_DECIDED: Final = ("status", "error_summary", "error_details")


class StepUsage:
    """Adds up what the steps of one recorder's runs used. Never waits."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def add(self, opened: OpenSpan, used: Usage, *, may_be_call: bool) -> None:
        """Count what an ended step used, and what has ended inside it.

        `may_be_call`: whether the step may be a model call.
        """
        runs: list[ActiveRun] = []
        below: Usage = {}
        if opened.inside:
            below, runs = take_inside(opened.inside)
        if "tool_calls" in used or (may_be_call and is_call(used)):
            opened.counted = CountedCall(used, below)
        if below:
            used = folded(used, below)
        above = opened.above
        if above is None or above.is_run:
            self._add_to_run(opened.run if above is None else above.run, used)
        else:
            self._hand_on(opened.run, above, used, runs)

    def _hand_on(self, run: ActiveRun, above: OpenSpan | None, used: Usage, runs: list[ActiveRun]) -> None:
        """Give what a step used, and the runs inside it, to the open step around it, else to its run."""
        while above is not None and not above.is_run:
            if not above.ended:
                above.inside.append(used)
                above.inside.extend(runs)
                if len(above.inside) > MAX_APART:
                    shrink(above.inside)
                if not above.has_ended():
                    return
                used, runs = take_inside(above.inside)  # it ended in another thread meanwhile
                if not used and not runs:
                    return
            if above.counted is not None:
                used = above.counted.without_repeats(used)
            above = above.above
        self._add_to_run(run if above is None else above.run, used)

    def _add_to_run(self, run: ActiveRun, used: Usage) -> None:
        if run.is_elsewhere:
            return
        run.usage.add(used)
        if run.ended:
            self._write_later_state(run)

    def _write_later_state(self, run: ActiveRun) -> None:
        """Write what an ended run used, as far as it is known now, unless its last state holds it already."""
        metrics = json_object(run.fields.get("metrics_json") or "{}")
        written = metrics.get(USAGE_KEY)
        metrics[USAGE_KEY] = dict(sorted({**run.usage.shown(), **run.reported_usage}.items()))
        if metrics[USAGE_KEY] == written:
            return
        updated_at = iso_utc(run.next_update_ns(self._recorder.clock.now_ns()))
        state = _state_by_last_call(run, written or {}, metrics[USAGE_KEY])
        run.state = {**state, "metrics_json": dumps_text(metrics), "updated_at": updated_at}
        self._recorder.record_run(run.fields)


def _state_by_last_call(run: ActiveRun, before: Usage, now: Usage) -> Fields:
    """Return a run's last state with the status that its last model call gives it, where its sender leaves it to that.

    `before`, `now`: what the run had used when its last state was written, and what it has used now.
    """
    was, failure = failure_of_last_call(before), failure_of_last_call(now)
    if was == failure or run.status is not None or run.has_status:
        return run.state
    given = _fields_of_failure(was)
    if any(run.state.get(name) != given.get(name) for name in _DECIDED):  # something else has decided
        return run.state
    kept = {name: value for name, value in run.state.items() if name not in _DECIDED}
    return {**kept, **_fields_of_failure(failure)}


def _fields_of_failure(failure: str | None) -> Fields:
    """Return the columns of a status that the last model call has decided."""
    if failure is None:
        return {"status": st.SUCCESS}
    return {"status": st.FAILED, **error_fields(Ending(st.FAILED, failure))}
