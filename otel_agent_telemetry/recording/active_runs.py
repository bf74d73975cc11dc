"""The runs that are open in this process, and who has which id.

A registry without a lock: its two operations that must not race, claiming an id and giving
it back, are single dictionary operations.
"""

from __future__ import annotations

import logging
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from time import monotonic_ns, time_ns
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import orjson

from otel_agent_telemetry import forks
from otel_agent_telemetry.clock import iso_utc
from otel_agent_telemetry.columns import STATE_STEP_NS, Fields
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.redaction import DEFAULT_MAX_BYTES, kept_run_id
from otel_agent_telemetry.run_id import RunIDMetrics, check_custom_run_id, duplicate_run_id, generate_run_id

_log = logging.getLogger(__name__)
_NOTHING: Final[dict[str, Any]] = {}
"""What attributes that are replaced, never changed, are at first."""
_MAX_SEEN = 10_000
_MAX_LEFT = 16
_CLOCK_STEP_NS = 1_000_000_000


class ResourceDefaults(NamedTuple):
    """Values that a recording process adds to its runs.

    `columns`: column → value, used where no span gives the column (host, owner, git).
    `capture_content`: whether prompts and completions are kept; default no. `max_bytes`: the
    size of one payload in bytes, above which it is truncated. `unknown_text_max`: where content
    is not kept, characters of a text under an unknown name. `content_allow`: names that are
    kept all the same. `user_ids`: whether attributes give `user_id`: `off`, `hash`, `keep`;
    `user_id_key`: the key of the digests. `content_for`: agents and projects whose content is kept all the same
    (`otel.content_choice`).
    """

    columns: Mapping[str, str] = MappingProxyType({})
    capture_content: bool = False
    max_bytes: int = DEFAULT_MAX_BYTES
    unknown_text_max: int = 64
    content_allow: tuple[str, ...] = ()
    user_ids: str = "off"
    user_id_key: str = ""
    content_for: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: TelemetryConfig, columns: Mapping[str, str]) -> ResourceDefaults:
        """Return the defaults of a configuration with these columns."""
        return cls(
            columns,
            config.capture_content,
            config.max_event_bytes,
            config.unknown_text_max,
            config.content_allow,
            config.user_id,
            config.user_id_key or "",
            # Where all content is kept there is nothing to choose.
            () if config.capture_content else config.capture_content_for,
        )


class ActiveRun:
    """One open run: its identity, what its lines hold, and what its owner set since.

    It is made on the application's thread, and most runs use few of its attributes.
    """

    # No defaults on the class: the interpreter finds an attribute that has one ten times slower.
    __slots__ = (
        "_columns", "agent_name", "attributes", "began_monotonic_ns", "child_agent", "clock_gap_ns", "closed",
        "encoded", "encoded_columns", "ended", "event_id", "exception", "extra", "generation", "handled_at_start",
        "has_late_runs", "has_left_out", "has_metrics", "has_status", "is_agent", "is_elsewhere", "is_lost",
        "last_error", "left_out", "logged_exception", "members", "parent_run_id", "reported_usage", "reports_use",
        "resource_defaults", "run_id", "settings", "span", "span_id", "start_commit", "start_ns", "started_at",
        "state", "status", "takes_child_name", "trace_id", "updated_ns", "usage",
    )  # fmt: skip
    attributes: dict[str, Any]
    """Every attribute that the span was seen to have, the latest value of each."""
    encoded: bytes
    """`columns` as members of a line; empty when they are to be made anew for the next state."""
    encoded_columns: bytes
    """The same as it was made last; empty before the first state."""
    has_metrics: bool
    """Whether the columns have `metrics_json`."""
    _columns: Fields | None
    state: Fields
    """The columns that the last state wrote beside `columns`."""
    resource_defaults: object
    """The resource defaults that `columns` were made with."""
    members: bytes
    """How the members of each event and step of the run begin."""
    is_elsewhere: bool
    """Whether it stands for a run of another process, which nothing is written of."""
    agent_name: str
    status: Any
    """The status that the client gave for the end of the run; None when it gave none."""
    settings: dict[str, Any]
    """Columns that the client set by name."""
    extra: dict[str, Any]
    """What the client set under names that are no columns."""
    exception: dict[str, Any] | None
    """Attributes of the last exception event."""
    last_error: str | None
    """The description of the last step that failed, for a run that is left open."""
    logged_exception: dict[str, Any] | None
    """Attributes of the last log record with an exception, for a run whose span has no exception event."""
    child_agent: str | None
    """The name of the first agent below, for a run that has none of its own."""
    reported_usage: dict[str, Any]
    """What the run itself says it used: figure by figure it counts before what was counted."""
    is_agent: bool
    """Whether the run's own span says that it is an agent's doing."""
    takes_child_name: bool
    parent_run_id: str | None
    start_commit: str | None
    """The commit that the process worked on when the run began; None for a process's first runs."""
    is_lost: bool
    """Whether the first state could not be kept."""
    has_late_runs: bool
    """Whether a step of the run has turned into a run of its own."""
    has_status: bool
    """Whether the span itself says how the run ended: by an attribute, or by the status `OK`."""
    reports_use: bool
    """Whether the span's attributes give a number of tokens."""
    has_left_out: bool
    """Whether something was left out of a step or an event since the columns were made."""
    left_out: list[Mapping[str, int]]
    """What was left out of steps and events as message content: counts by name, a part for each."""
    handled_at_start: BaseException | None
    """The exception that was being handled when the span began: it is not what ends the run."""
    span: Any
    """The live span; None for a run that was seen only after its end."""
    ended: bool
    closed: bool
    """Whether the interpreter's exit has ended the run for the application, which may still end it itself."""
    generation: object
    """Which process began the run: only that one writes its states."""

    run_id: str

    def __init__(self, event_id: str, trace_id: str, span_id: str, start_ns: int, usage: Any) -> None:
        self.event_id = event_id
        self.trace_id = trace_id
        self.span_id = span_id
        self.start_ns = start_ns
        self.started_at = iso_utc(start_ns)
        self.updated_ns = start_ns
        self.began_monotonic_ns = began_ns = monotonic_ns()
        self.clock_gap_ns = time_ns() - began_ns
        """By what wall clock and monotonic clock differed when the span began: it changes when a clock is set."""
        self.usage = usage
        """What its steps have used so far: the processor's accumulator."""
        self.attributes = self.state = self.settings = self.extra = self.reported_usage = _NOTHING
        self.encoded = self.encoded_columns = self.members = b""
        self.agent_name = self.run_id = ""
        self.has_metrics = self.is_elsewhere = self.is_agent = self.takes_child_name = False
        self.is_lost = self.has_late_runs = self.has_status = self.reports_use = False
        self.has_left_out = self.ended = self.closed = False
        self._columns = self.resource_defaults = self.status = self.exception = None
        self.last_error = self.logged_exception = self.child_agent = self.parent_run_id = None
        self.start_commit = self.handled_at_start = self.span = self.generation = None
        self.left_out = []

    @property
    def columns(self) -> Fields:
        """Return the run's columns but for its status, its end and its use: column name → value."""
        if self._columns is None:
            self._columns = orjson.loads(b"{%b}" % self.encoded_columns)
        return self._columns

    def set_columns(self, encoded: bytes, columns: Fields | None = None) -> None:
        """Set the columns, as members of a line; `columns`: the same, where they are at hand."""
        self.encoded = self.encoded_columns = encoded
        self._columns = columns
        self.has_metrics = columns is not None and "metrics_json" in columns

    @property
    def fields(self) -> Fields:
        """Return the last written state: column name → value."""
        return {**self.columns, **self.state}

    def update_settings(self, settings: dict[str, Any], extra: dict[str, Any]) -> None:
        """Add what the client set: columns by name, and other values under names that are no columns."""
        if settings or extra:
            self.settings = {**self.settings, **settings}
            self.extra = {**self.extra, **extra}
            self.encoded = b""

    def next_update_ns(self, at_ns: int) -> int:
        """Return the instant of this run's next state: `at_ns`, but always after the last one."""
        self.updated_ns = max(at_ns, self.updated_ns + STATE_STEP_NS)
        return self.updated_ns

    def elapsed_ns(self) -> int:
        """Return how long the run has been open, by a clock that nobody sets."""
        return monotonic_ns() - self.began_monotonic_ns

    def clock_step_ms(self) -> int:
        """Return by how much the wall clock was set since the run began; 0 for less than a second."""
        step_ns = time_ns() - monotonic_ns() - self.clock_gap_ns
        return step_ns // 1_000_000 if not -_CLOCK_STEP_NS <= step_ns <= _CLOCK_STEP_NS else 0


_everywhere: list[weakref.ref[ActiveRuns]] = []
"""A list, because it is read while other threads add to it."""


def open_run(span_id: int) -> ActiveRun | None:
    """Return the open run of this process that a span is, or is a step of, whichever recorder it belongs to."""
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
        self._lost: dict[str, ActiveRun] = {}
        """Id that the client returned → open run whose first state could not be kept."""
        self.exporter_present = False
        """Whether an exporter of this recorder exists, which must leave alone what was recorded live."""
        self._seen: dict[str, None] = {}
        self.open_spans: dict[int, Any] = {}
        """Span id → what the processors of this recorder know of that open span; shared between them."""
        self.left_spans: deque[Any] = deque(maxlen=_MAX_LEFT)
        """The same, of the last 16 spans that ended: what begins below them belongs there still."""
        _everywhere.append(weakref.ref(self, _everywhere.remove))

    def begin_generation(self) -> None:
        """Begin anew in a forked child: the runs so far are the parent's to end; counters begin at 0."""
        self.metrics = RunIDMetrics()
        self.generation = object()

    def __len__(self) -> int:
        return len(self._runs)

    def get(self, run_id: str) -> ActiveRun | None:
        """Return the open run of that id; None when none is open under it."""
        found = self._runs.get(run_id) or self._lost.get(run_id)
        if found is None:  # the application may use the id that it gave
            found = self._runs.get(kept_run_id(run_id))
        return found

    def note_lost(self, run: ActiveRun, run_id: str) -> None:
        """Let a run whose first state could not be kept be ended under the id that its caller was given."""
        self._lost[run_id] = run

    def is_mine(self, run: ActiveRun) -> bool:
        """Return whether this process began the run, rather than its parent before a fork."""
        forks.notice()
        return run.generation is self.generation

    def mine(self) -> Iterator[ActiveRun]:
        """Return the open runs that this process itself began, without those that its exit has closed."""
        # A copy, because other threads begin and end runs while the caller iterates.
        return (run for run in list(self._runs.values()) if self.is_mine(run) and not run.closed)

    def claim(self, run: ActiveRun, *, wanted: object, agent_name: str, token: str) -> None:
        """Give the run its id and enter it: the wanted one if it may be used, else a generated one.

        `token` are the eight hex digits of a generated id. Counts every decision.
        """
        run.agent_name = agent_name
        run.generation = self.generation
        custom = None if wanted is None else self._accepted(wanted)
        if custom is None:
            self.metrics.count_generated()
            run.run_id = generate_run_id(agent_name, at_ns=run.start_ns, token=token)
        else:
            run.run_id = custom
        # A run that the exit has closed gives its id up: an exit handler may start the next run under it.
        if (before := self._runs.get(run.run_id)) is not None and before.closed:
            self.release(before)
        # `setdefault` is one step of the interpreter: of two threads with one id exactly one finds its own run.
        while self._runs.setdefault(run.run_id, run) is not run:
            self.metrics.count_duplicate()
            if custom:
                _log.error("Custom run_id '%s' is already active", run.run_id)
                run.run_id = duplicate_run_id(custom)
            else:
                _log.info("Regenerating run_id to avoid duplicate")
                run.run_id = generate_run_id(agent_name, at_ns=run.start_ns)

    def enter(self, run: ActiveRun) -> bool:
        """Enter a run under the generated id that it has; False, with nothing done, where that id is taken."""
        run.generation = self.generation
        if self._runs.setdefault(run.run_id, run) is not run:
            return False
        self.metrics.count_generated()
        return True

    def left(self, span_id: int) -> Any:
        """Return what is known of one of the last spans that ended, of several with that id of the last; None else."""
        # A copy, because other threads end spans meanwhile.
        return next((opened for opened in reversed([*self.left_spans]) if opened.number == span_id), None)

    def mark_recorded_live(self, event_id: str) -> None:
        """Note that a processor records this run as it happens: the last 10,000 runs, once there is an exporter."""
        if not self.exporter_present:
            return
        self._seen[event_id] = None
        if len(self._seen) > _MAX_SEEN:
            self._seen.pop(next(iter(self._seen), ""), None)

    def recorded_live(self, event_id: str) -> bool:
        """Return whether a processor of this process records that run already."""
        return event_id in self._seen

    def _accepted(self, wanted: object) -> str | None:
        """Return the application's run id if it keeps the rules; None, counted and logged, if not."""
        reason = check_custom_run_id(wanted)
        if reason is None:
            self.metrics.count_custom()
            run_id = kept_run_id(str(wanted))
            if run_id != wanted:
                _log.warning("A custom run_id looks like a secret: it is masked")
            return run_id
        self.metrics.count_rejected(reason)
        _log.warning("Custom run_id rejected (%s); using a generated one", reason)
        return None

    def release(self, run: ActiveRun) -> None:
        """Forget a run that has ended: its id may be used again."""
        run.ended = True
        if self._runs.get(run.run_id) is run:
            del self._runs[run.run_id]
        if run.is_lost:
            # A new dictionary: a thread that looks an id up meanwhile reads the old one.
            self._lost = {run_id: lost for run_id, lost in self._lost.items() if lost is not run}
        run.span, run.exception, run.attributes = None, None, {}  # what a late step needs is little
