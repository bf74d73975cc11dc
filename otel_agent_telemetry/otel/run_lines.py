"""From open spans to the lines of the journal and the buffer: start, events, steps, end.

The members that all lines of a run share are encoded once. A state is those members, as they
were encoded at the start while nothing has changed, and a few of its own:

    run line   = head seq "," columns "," state
    columns    = members of every column but those of the state
    state      = status, updated_at, and at the end end_time, duration_ms, error_*, metrics_json

Spans with plain attributes take the fast way of `attribute_plan`; all others the long way of
`mapping`. Both give the same members.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from otel_agent_telemetry import status as st
from otel_agent_telemetry.clock import instant_ns, iso_utc
from otel_agent_telemetry.columns import COUNT_COLUMNS, MAX_COUNT, SCHEMA_VERSION, Fields
from otel_agent_telemetry.otel import conventions as names
from otel_agent_telemetry.otel.attribute_plan import PLAIN_COLUMNS, AttributePlans, are_plain
from otel_agent_telemetry.otel.ended_spans import EXCEPTION, step_members
from otel_agent_telemetry.otel.live_span import OpenSpan
from otel_agent_telemetry.otel.mapping import (
    Ending,
    Overrides,
    agent_name_of,
    conventional_of_resource,
    differing,
    ending_fields,
    own_agent_name,
    run_columns,
)
from otel_agent_telemetry.otel.spans import EventPayload, SpanView, attributes_of, resource_of, view_of
from otel_agent_telemetry.recording.active_runs import ActiveRun
from otel_agent_telemetry.recording.recorder import Recorder
from otel_agent_telemetry.redaction import clean
from otel_agent_telemetry.secret_patterns import is_harmless
from otel_agent_telemetry.usage import USAGE_KEY
from otel_agent_telemetry.wire import dumps_text, encode_members

_FAST_BYTES: Final = 600_000
"""With less room than this for one payload, every one is measured: the long way."""
START_COMMIT: Final = "start_commit"
"""The member of `context_json` that names the commit a run began on."""
_DECIDED_BY_STATE: Final = ("duration_ms", "end_time", "status", "updated_at")
_KINDS: Final = (b"internal", b"server", b"client", b"producer", b"consumer")
_STATUSES: Final = {StatusCode.UNSET: b"unset", StatusCode.OK: b"ok", StatusCode.ERROR: b"error"}
_MAX_NAME: Final = 256


class RunLines:
    """Writes the lines of one recorder's runs. Safe under threads; never raises but for a bug of ours."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._config = recorder.config
        self._is_roomy = self._config.max_event_bytes >= _FAST_BYTES
        self._known_defaults: tuple[object, object, Fields] = (None, None, {})
        self.plans = AttributePlans(capture_content=self._config.capture_content)

    # --- runs

    def start_run(self, run: ActiveRun, *, wanted: object) -> None:
        """Give a run its id and write its first state.

        `wanted`: the custom id that the client was given; else the span's attribute counts.
        """
        span = run.span
        attributes = attributes_of(span)
        run.has_status_attribute = attributes.pop(names.STATUS, None) is not None
        view = None
        name = run.agent_name or _plain_agent_name(attributes)
        if not name:
            view = view_of(span)
            name = agent_name_of(view)
        wanted = attributes.get(names.RUN_ID) if wanted is None else wanted
        self._recorder.active.claim(run, wanted=wanted, agent_name=name, token=run.event_id[:8])
        self._note_kind(run, attributes, view)
        run.start_commit = self._recorder.commit
        self._refresh(run, span, attributes)
        run.state = {"status": st.RUNNING, "updated_at": run.columns["start_time"]}
        self._recorder.append_run(
            b'%b,"status":"running","updated_at":"%b"}' % (run.encoded, run.columns["start_time"].encode())
        )

    def _note_kind(self, run: ActiveRun, attributes: dict[str, Any], view: SpanView | None) -> None:
        """Note whether the run is an agent's doing, and whether it still needs a name."""
        named = bool(attributes.get(names.GEN_AI_AGENT_NAME) or attributes.get(names.AGENT_NAME))
        if not named:
            named = own_agent_name(view or view_of(run.span)) is not None
        run.is_agent = named or names.is_agent_work(attributes, str(run.span.name))
        run.takes_child_name = run.is_agent and not named

    def _refresh(self, run: ActiveRun, span: ReadableSpan, attributes: dict[str, Any]) -> None:
        """Make the columns of a run from what span, client and resource say now, and encode them."""
        columns = self._plain_columns(run, span, attributes) or self._any_columns(run, span, attributes)
        run.columns = columns
        run.encoded = encode_members(columns)
        run.attributes = attributes
        plan = self.plans.of(attributes)
        # The client's own spans say what they are, and no more.
        may_be_call = plan.counts and attributes.get(names.GEN_AI_OPERATION) != names.INVOKE_AGENT
        run.reports_use = plan.reports_use or may_be_call
        run.resource_defaults = self._recorder.resource_defaults

    def _refresh_if_changed(self, run: ActiveRun, span: ReadableSpan) -> None:
        attributes = attributes_of(span)
        attributes.pop(names.STATUS, None)
        same = attributes == run.attributes and _same_types(attributes, run.attributes)
        if not (same and run.encoded and run.resource_defaults is self._recorder.resource_defaults):
            self._refresh(run, span, attributes)

    def _start_commit(self, run: ActiveRun, span: ReadableSpan) -> str | None:
        """Return the commit that the run began on.

        The background reads the first one just after the process's first record: runs that
        began before get it with their end.
        """
        if run.start_commit is None and span.end_time is not None:
            return self._recorder.first_commit
        return run.start_commit

    def _identity(self, run: ActiveRun) -> Fields:
        """Return the columns that say which run it is, and since when."""
        known = run.columns
        started = known["start_time"] if known else iso_utc(run.start_ns)
        identity: Fields = {
            "event_id": run.event_id,
            "run_id": run.run_id,
            "schema_version": SCHEMA_VERSION,
            "created_at": started,
            "start_time": started,
            "trace_id": run.trace_id,
            "span_id": run.span_id,
        }
        if run.parent_run_id is not None and run.parent_run_id != run.run_id:
            identity["parent_run_id"] = run.parent_run_id
        return identity

    def _defaults(self, span: ReadableSpan) -> Fields:
        """Return the columns that resource and process give to every run; one object while neither changes."""
        resource, defaults = span.resource, self._recorder.resource_defaults
        known = self._known_defaults
        if known[0] is not resource or known[1] is not defaults:
            columns = {**defaults.columns, **conventional_of_resource(resource_of(resource))}
            self._known_defaults = known = (resource, defaults, columns)
        return known[2]

    def _plain_columns(self, run: ActiveRun, span: ReadableSpan, attributes: dict[str, Any]) -> Fields | None:
        """The fast way; None where only the long one is right."""
        plan = self.plans.of(attributes)
        if not (plan.fast and self._is_roomy) or run.extra or run.reported_usage or not are_plain(attributes):
            return None
        if span.dropped_attributes:  # later ones pushed some out, which the long way remembers
            return None
        columns = {**self._defaults(span), **self._identity(run)}
        if not plan.fill(columns, attributes) or not _fill_settings(columns, run.settings):
            return None
        if "agent_name" not in columns:
            columns["agent_name"] = _plain_agent_name(attributes) or agent_name_of(view_of(span), run.child_agent)
        if "job_type" not in columns:
            columns["job_type"] = _plain_job_type(attributes) or str(span.name) or "unknown"
        commit = self._start_commit(run, span)
        if plan.left_over or commit:
            context = plan.left_over_of(attributes)
            if commit:
                context.setdefault(START_COMMIT, commit)
            columns["context_json"] = orjson.dumps(context).decode()
        return columns

    def _any_columns(self, run: ActiveRun, span: ReadableSpan, attributes: dict[str, Any]) -> Fields:
        """The long way, for whatever a span holds. What is unusable is left out and counted."""
        view = view_of(span)
        if run.attributes.keys() - attributes.keys():
            view = view._replace(attributes={**run.attributes, **view.attributes})
        attributes.update(view.attributes)
        problems: list[str] = []
        if view.end_ns is not None:
            run.usage.set_run_total(view)
        used = run.usage.shown()
        commit = self._start_commit(run, span)
        extra = run.extra if commit is None or START_COMMIT in attributes else {START_COMMIT: commit, **run.extra}
        overrides = Overrides(run.settings, extra, used, run.child_agent)
        columns = run_columns(view, overrides=overrides, around=self._recorder.resource_defaults, problems=problems)
        if problems:
            counters = self._recorder.counters
            counters.clamped += len(problems)
            counters.warn("clamped", "run %s: %s", run.run_id, "; ".join(problems))
        if used and view.end_ns is not None:
            run.reported_usage = differing(columns, used)
        for name in _DECIDED_BY_STATE:
            columns.pop(name, None)
        for name in ("error_summary", "error_details"):
            if name in columns:
                columns[name] = clean(columns[name])
        return {**self._identity(run), **columns}

    def _write_state(self, run: ActiveRun, state: Fields) -> None:
        run.state = state
        self._recorder.append_run(b"%b,%b" % (run.encoded, encode_members(state) + b"}"))

    def write_update(self, run: ActiveRun) -> None:
        """Write the state of an open run as it is now."""
        attributes = attributes_of(run.span)
        now_ns = run.next_update_ns(self._recorder.clock.now_ns())
        self._refresh(run, run.span, attributes)
        if not run.ended:
            self._write_state(run, {"status": st.RUNNING, "updated_at": iso_utc(now_ns)})

    def write_end(self, run: ActiveRun, span: ReadableSpan, ending: Ending, *, end_ns: int, changed: bool) -> None:
        """Write the terminal state of a run; `changed`: whether attributes may have been set since the start.

        An end before the start, which a clock that was set back gives, is the start and the
        time that passed since.
        """
        if step_ms := run.clock_step_ms():
            run.update_settings({}, {"clock_step_ms": step_ms})
        if changed or not run.encoded or run.resource_defaults is not self._recorder.resource_defaults:
            self._refresh_if_changed(run, span)
        if end_ns < run.start_ns:
            end_ns = run.start_ns + run.elapsed_ns()
        updated_ns = run.next_update_ns(end_ns)
        state = ending_fields(ending, start_ns=run.start_ns, end_ns=end_ns, updated_ns=updated_ns)
        if ending.summary or ending.details:
            for name in ("error_summary", "error_details"):  # what the client set stands
                if name in run.columns:
                    state.pop(name, None)
        if run.usage or run.reports_use or "metrics_json" in run.columns:
            self._add_usage(run, span, state)
        self._write_state(run, state)

    def _add_usage(self, run: ActiveRun, span: ReadableSpan, state: Fields) -> None:
        """Add what the run and its steps used, unless the columns say it already."""
        if "metrics_json" in run.columns:
            if run.usage:
                self._refresh(run, span, attributes_of(span))
            return
        if run.reports_use:
            run.usage.set_run_total(view_of(span))
        used = run.usage.shown()
        if used:
            state["metrics_json"] = dumps_text({USAGE_KEY: used})

    # --- events

    def takes_plain(self, attributes: dict[str, Any]) -> bool:
        """Return whether an event's attributes need no cleaning."""
        return self._is_roomy and self.plans.of(attributes).fast_payload and are_plain(attributes)

    def record_plain_event(self, opened: OpenSpan, name: str, attributes: dict[str, Any], at_ns: int) -> None:
        """Write one event whose attributes `takes_plain` has accepted. Never raises."""
        try:
            run = opened.run
            if name == EXCEPTION and opened.is_run and attributes:
                run.exception = attributes
            payload = orjson.dumps(attributes) if attributes else b"null"
            if b"record_type" in payload or len(name) > _MAX_NAME:
                self._record_event(opened, name, attributes or None, at_ns)
                return
            self._recorder.append_event(
                b'%b,"span_id":"%b","event_type":%b,"timestamp":"%b","payload":%b}'
                % (
                    run.event_members or _event_members(run),
                    opened.span_id.encode(),
                    orjson.dumps(name),
                    iso_utc(at_ns).encode(),
                    payload,
                )
            )
        except (TypeError, ValueError):  # a lone surrogate, a number beyond 64 bits
            self.record_event(opened, name, attributes, at_ns)
        except Exception as problem:  # the outer edge of add_event
            self._recorder.counters.internal("event", problem)

    def record_event(self, opened: OpenSpan, name: str, attributes: Any, timestamp: Any) -> None:
        """Write one event of an open span, from any attributes. Never raises."""
        try:
            at_ns = instant_ns(timestamp, 0) if timestamp else 0
            if type(attributes) is EventPayload:
                payload = attributes.payload
            else:
                payload = clean(dict(attributes), max_bytes=self._config.max_event_bytes) if attributes else None
                if name == EXCEPTION and opened.is_run and attributes:
                    opened.run.exception = dict(attributes)
            self._record_event(opened, name, payload, at_ns or self._recorder.clock.now_ns())
        except Exception as problem:  # the outer edge of add_event
            self._recorder.counters.internal("event", problem)

    def _record_event(self, opened: OpenSpan, name: str, payload: Any, at_ns: int) -> None:
        run = opened.run
        self._recorder.record_event(
            {
                "event_id": run.event_id,
                "run_id": run.run_id,
                "event_type": name if type(name) is str else str(name),
                "timestamp": iso_utc(at_ns),
                "payload": payload,
                "trace_id": run.trace_id,
                "span_id": opened.span_id,
            }
        )

    # --- steps

    def write_step_start(self, opened: OpenSpan) -> None:
        """Write the first state of a step."""
        span, run = opened.live, opened.run
        opened.encoded = self._plain_step(opened, span, attributes := attributes_of(span))
        if not opened.encoded:
            self._write_any_step(view_of(span), run)
            return
        opened.attributes = attributes
        self._recorder.append_span(opened.encoded + b',"status":"running"}')

    def _plain_step(self, opened: OpenSpan, span: ReadableSpan, attributes: dict[str, Any]) -> bytes:
        """Return the members of a step that both of its states write; empty where only the long way is right."""
        plan = self.plans.of(attributes)
        name = span.name
        if not (plan.fast_payload and self._is_roomy and type(name) is str and len(name) <= _MAX_NAME):
            return b""
        if not are_plain(attributes):
            return b""
        try:
            parent = span.parent
            members = b'%b,"span_id":"%b","parent_span_id":"%016x","name":%b,"kind":"%b","start_time":"%b"' % (
                opened.run.event_members or _event_members(opened.run),
                opened.span_id.encode(),
                parent.span_id if parent is not None else 0,
                orjson.dumps(name),
                _KINDS[span.kind.value],
                iso_utc(instant_ns(span.start_time, 0)).encode(),
            )
            if plan.kept:
                kept = attributes if len(plan.kept) == len(attributes) else {key: attributes[key] for key in plan.kept}
                members += b',"attributes":%b' % orjson.dumps(kept)
        except (TypeError, ValueError):  # a lone surrogate, a number beyond 64 bits
            return b""
        return b"" if b'{"record_type":"' in members or parent is None else members

    def _write_any_step(self, view: SpanView, run: ActiveRun) -> None:
        defaults = self._recorder.resource_defaults
        self._recorder.record_span(step_members(view, defaults, event_id=run.event_id, run_id=run.run_id))

    def write_step_end(self, opened: OpenSpan, span: ReadableSpan) -> SpanView | None:
        """Write the last state of a step and count what it used; return its view if one had to be made."""
        run, attributes = opened.run, attributes_of(span)
        if opened.encoded and (opened.changed or len(attributes) != len(opened.attributes)):
            opened.encoded = self._plain_step(opened, span, attributes)
        if not opened.encoded or span.status.description:
            view = view_of(span)
            run.usage.add(view)
            self._write_any_step(view, run)
            return view
        counted = self._count(run, span, attributes)
        start_ns = instant_ns(span.start_time, 0)
        end_ns = instant_ns(span.end_time, start_ns)
        self._recorder.append_span(
            b'%b,"status":"%b","end_time":"%b","duration_ms":%d}'
            % (
                opened.encoded,
                _STATUSES[span.status.status_code],
                iso_utc(end_ns).encode(),
                max(end_ns - start_ns, 0) // 1_000_000,
            )
        )
        return counted

    def _count(self, run: ActiveRun, span: ReadableSpan, attributes: dict[str, Any]) -> SpanView | None:
        """Count what a step used; most tell nothing, or one call of a tool."""
        plan = self.plans.of(attributes)
        if not (plan.counts or span.status.status_code is StatusCode.ERROR):
            run.usage.add_plain_step()
            return None
        view = view_of(span)
        run.usage.add(view)
        return view


def _event_members(run: ActiveRun) -> bytes:
    """Return, and keep, how the members of each event and step of a run begin."""
    run.event_members = encode_members({"event_id": run.event_id, "run_id": run.run_id, "trace_id": run.trace_id})
    return run.event_members


def _fill_settings(columns: Fields, settings: Mapping[str, Any]) -> bool:
    """Add columns that the client set by name; False where one needs a check of its own."""
    texts: list[str] = []
    for name, value in settings.items():
        if name not in PLAIN_COLUMNS:
            return False
        if name in COUNT_COLUMNS:
            if type(value) is not int or not 0 <= value <= MAX_COUNT:
                return False
        elif type(value) is str:
            if not value:
                continue
            texts.append(value)
        else:
            return False
        columns[name] = value
    return not texts or is_harmless(texts)


def _plain_agent_name(attributes: Mapping[str, Any]) -> str:
    """Return the name that an attribute gives; empty where it takes a longer look."""
    for key in names.AGENT_NAMES:
        if (value := attributes.get(key)) and type(value) is str:
            return value
    return ""


def _plain_job_type(attributes: Mapping[str, Any]) -> str:
    return next((str(value) for key in names.JOB_TYPES if (value := attributes.get(key))), "")


def _same_types(attributes: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """Whether equal values are of equal types: 1, 1.0 and True are equal."""
    return list(map(type, attributes.values())) == list(map(type, known.values()))
