"""The runs that are open in this process, and who has which id.

A registry without a lock: its two operations that must not race, claiming an id and giving
it back, are single dictionary operations.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from otel_agent_telemetry.columns import STATE_STEP_NS, Fields
from otel_agent_telemetry.redaction import DEFAULT_MAX_BYTES
from otel_agent_telemetry.run_id import RunIDMetrics, check_custom_run_id, duplicate_run_id, generate_run_id

_log = logging.getLogger(__name__)
_MAX_SEEN = 10_000
_MAX_LEFT = 1_000


@dataclass(frozen=True, slots=True)
class ResourceDefaults:
    """Values that a recording process adds to its runs.

    `columns`: column → value, used where no span gives the column (host, owner, git).
    `capture_content`: whether prompts and completions are kept; default no. `max_bytes`: the
    size of one payload in bytes, above which it is truncated.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    capture_content: bool = False
    max_bytes: int = DEFAULT_MAX_BYTES


class ActiveRun:
    """One open run: its identity, its last written state, and what its owner set since.

    `fields` is the last state as written; `settings` what the client set by name; `extra`
    what it set under names that are no columns. `span` is the live span, None for a run
    that was seen only after its end.
    """

    __slots__ = (
        *("agent_name", "attributes", "child_agent", "columns", "ended", "event_id", "exception", "extra", "fields"),
        *("generation", "reported_usage", "handled_at_start", "is_agent", "monotonic", "run_id", "settings", "span"),
        *("span_id", "start_ns", "status", "takes_child_name", "usage", "trace_id", "updated_ns"),
    )  # fmt: skip

    def __init__(self, *, run_id: str, event_id: str, trace_id: str, span_id: str, start_ns: int, usage: Any) -> None:
        self.run_id = run_id
        self.event_id = event_id
        self.trace_id = trace_id
        self.span_id = span_id
        self.start_ns = start_ns
        self.updated_ns = 0
        self.monotonic = time.monotonic()
        self.agent_name = ""
        self.fields: Fields = {}
        self.attributes: dict[str, Any] = {}
        """Every attribute that the span was seen to have, the latest value of each."""
        self.columns: tuple[dict[str, Any], object, Fields] | None = None
        """Attributes and surroundings that the columns were last made from, and the columns."""
        self.status: Any = None
        """What the client said the run ends as; None when it said nothing."""
        self.settings: dict[str, Any] = {}
        self.extra: dict[str, Any] = {}
        self.exception: dict[str, Any] | None = None
        self.usage = usage
        """What its steps have used so far: the processor's accumulator."""
        self.child_agent: str | None = None
        """The name of the first agent below, for a run that has none of its own."""
        self.reported_usage: dict[str, Any] = {}
        """What the run itself says it used: figure by figure it counts before what was counted."""
        self.is_agent = False
        """Whether the run's own span says that it is an agent's doing."""
        self.takes_child_name = False
        self.handled_at_start: BaseException | None = None
        self.span: Any = None
        self.ended = False
        self.generation: object = None

    def update_settings(self, settings: dict[str, Any], extra: dict[str, Any]) -> None:
        """Add what the client set: columns by name, and other values under names that are no columns."""
        if settings or extra:
            self.settings.update(settings)
            self.extra.update(extra)
            self.columns = None

    def set_final_status(self, status: object, *, attribute: str) -> None:
        """Remember what the client ends the run as; `attribute` is the span's, which then changes no column."""
        self.status = status
        if self.columns is not None:
            self.columns[0][attribute] = status

    def next_update_ns(self, now_ns: int) -> int:
        """The instant of this run's next state: now, but always after the last one, whatever the clock does."""
        self.updated_ns = max(now_ns, self.updated_ns + STATE_STEP_NS)
        return self.updated_ns


_everywhere: list[weakref.ref[ActiveRuns]] = []
"""A list, because it is read while other threads add to it."""


def open_run(span_id: int) -> ActiveRun | None:
    """The open run of this process that a span is, or is a step of, whichever recorder it belongs to."""
    for reference in _everywhere:
        runs = reference()
        opened = runs.open_spans.get(span_id) if runs is not None else None
        if opened is not None:
            run: ActiveRun = opened.run
            return run
    return None


class ActiveRuns:
    """Run id → open run, with the id rules and their counters (seed 001)."""

    def __init__(self) -> None:
        self.metrics = RunIDMetrics()
        self.generation = object()
        self._runs: dict[str, ActiveRun] = {}
        self._seen: dict[str, None] = {}
        self.open_spans: dict[int, Any] = {}
        """Span id → what the processors of this recorder know of that open span; shared between them."""
        self.left_spans: dict[int, ActiveRun] = {}
        """Span id → run, of the last spans that ended: what begins below them belongs there still."""
        _everywhere.append(weakref.ref(self, _everywhere.remove))

    def begin_generation(self) -> None:
        """In a forked child: the runs so far are the parent's to end; counters begin anew."""
        self.metrics = RunIDMetrics()
        self.generation = object()

    def __len__(self) -> int:
        return len(self._runs)

    def get(self, run_id: str) -> ActiveRun | None:
        """The open run of that id."""
        return self._runs.get(run_id)

    def mine(self) -> Iterator[ActiveRun]:
        """The open runs that this process itself began."""
        return (run for run in list(self._runs.values()) if run.generation is self.generation)

    def claim(self, run: ActiveRun, *, wanted: object, agent_name: str, token: str) -> None:
        """Give the run its id and enter it: the wanted one if it may be used, else a generated one.

        `token` are the eight hex digits of a generated id. Counts every decision.
        """
        run.agent_name = agent_name
        run.generation = self.generation
        custom = self._accepted(wanted)
        run.run_id = custom or generate_run_id(agent_name, at_ns=run.start_ns, token=token)
        while self._runs.setdefault(run.run_id, run) is not run:
            self.metrics.count_duplicate()
            if custom:
                _log.error("Custom run_id '%s' is already active", run.run_id)
                run.run_id = duplicate_run_id(custom)
            else:
                _log.info("Regenerating run_id to avoid duplicate")
                run.run_id = generate_run_id(agent_name, at_ns=run.start_ns)

    def leave(self, span_id: int, run: ActiveRun) -> None:
        """A run's span, or a step's, has ended; remembered for the last thousand."""
        self.left_spans[span_id] = run
        if len(self.left_spans) > _MAX_LEFT:
            self.left_spans.pop(next(iter(self.left_spans), 0), None)

    def mark_recorded_live(self, event_id: str) -> None:
        """A processor records this run as it happens; remembered for the last 10,000 runs."""
        self._seen[event_id] = None
        if len(self._seen) > _MAX_SEEN:
            self._seen.pop(next(iter(self._seen), ""), None)

    def recorded_live(self, event_id: str) -> bool:
        """Whether a processor of this process records that run already."""
        return event_id in self._seen

    def _accepted(self, wanted: object) -> str | None:
        if wanted is not None:
            reason = check_custom_run_id(wanted)
            if reason is None:
                self.metrics.count_custom()
                return str(wanted)
            self.metrics.count_rejected(reason)
            _log.warning("Custom run_id rejected (%s); using a generated one", reason)
        self.metrics.count_generated()
        return None

    def release(self, run: ActiveRun) -> None:
        """The run has ended: its id may be used again."""
        run.ended = True
        if self._runs.get(run.run_id) is run:
            del self._runs[run.run_id]
