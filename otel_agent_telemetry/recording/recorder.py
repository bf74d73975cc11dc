"""What records the runs of one process: from its first record to the interpreter's exit, and after a fork.

A `Recorder` is the process's `LineStore`, with the runs that are open, the background that
delivers, and what is known of the surroundings.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from otel_agent_telemetry import forks
from otel_agent_telemetry.buffer.identity import host_name
from otel_agent_telemetry.clock import Clock, iso_utc
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.interpreter import importing, wait_for_imports
from otel_agent_telemetry.last_activity import StepUsageSum
from otel_agent_telemetry.recording.active_runs import ActiveRuns, ResourceDefaults
from otel_agent_telemetry.recording.background import Worker
from otel_agent_telemetry.recording.line_store import LineStore

if TYPE_CHECKING:
    from otel_agent_telemetry.git import HeadCommit

_PERIODIC_TASK_TIMEOUT_S = 1.0

T = TypeVar("T")


def weak_callback(method: Callable[[], None]) -> Callable[[], None]:
    """Return a function that calls a bound method as long as its object lives, without keeping it alive."""
    reference = weakref.WeakMethod(method)

    def call() -> None:
        alive = reference()
        if alive is not None:
            alive()

    return call


class Recorder(LineStore):
    """Writes the records of this process; one for each configuration, see `Recorder.shared`.

    Opens nothing and starts nothing before the first record. Safe under threads. After a
    fork the child writes under an identity, segments and threads of its own. A copy is the
    recorder itself; it refuses to be pickled.
    """

    _shared: dict[TelemetryConfig, Recorder] = {}  # noqa: RUF012 - the registry is the point
    _shared_guard = threading.Lock()

    def __init__(self, config: TelemetryConfig, *, clock: Clock | None = None) -> None:
        super().__init__(config, clock=clock)
        self.active = ActiveRuns()
        self.resource_defaults = self._initial_defaults()
        self.commit: str | None = None
        """The commit that the working directory stands on, as the background read it within the last second."""
        self.first_commit: str | None = None
        """The same when it was read for the first time, just after the process's first record."""
        self._head: HeadCommit | None = None
        self.new_usage_sum: Callable[[], StepUsageSum] | None = None
        """See `DeliveryHost`; set by whoever knows what attributes mean."""
        self.before_exit: list[Callable[[], None]] = []
        """Called when the interpreter ends, before the last delivery: whoever has runs open ends them."""
        self.periodic_tasks: list[Callable[[float], None]] = []
        """Called once a second in the background while something is recorded, and before exit; with seconds to take."""
        self._components: dict[Any, Any] = {}
        self._watches_exit = False
        self.worker = Worker(self)
        forks.at_fork(before=weak_callback(self._before_fork), in_child=weak_callback(self._after_fork_in_child))

    def __copy__(self) -> Recorder:
        return self

    def __deepcopy__(self, _memo: object) -> Recorder:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Recorder owns files and threads of its process and cannot be pickled")

    def component(self, kind: Callable[[Recorder], T]) -> T:
        """Return the recorder's single object of a kind, creating it on first use."""
        known: T | None = self._components.get(kind)
        if known is None:
            # No lock: of two threads that make one, both get the one that was entered first.
            known = self._components.setdefault(kind, kind(self))
        return known

    @classmethod
    def shared(cls, config: TelemetryConfig) -> Recorder:
        """Return the recorder of this configuration in this process, creating it on first use."""
        with cls._shared_guard:
            recorder = cls._shared.get(config)
            if recorder is None:
                recorder = cls._shared[config] = cls(config)
            return recorder

    @classmethod
    def close_shared(cls, which: Callable[[TelemetryConfig], bool]) -> None:
        """End and forget the shared recorders of some configurations, as the interpreter's exit would.

        For tests, and for hosts that unload what they loaded. Blocks up to the exit timeout each.
        """
        with cls._shared_guard:
            recorders = [cls._shared.pop(config) for config in list(cls._shared) if which(config)]
        for recorder in recorders:
            # Outside the guard: a delivery may take the whole exit timeout, and others may ask for their recorder.
            recorder.at_exit()

    def _before_fork(self) -> None:
        """Give other threads, which may record for the first time, the moment that an import takes."""
        if self._writer is not None:
            wait_for_imports()

    def _after_fork_in_child(self) -> None:
        """Leave the parent's files and threads alone and begin anew at the next record."""
        Recorder._shared_guard = threading.Lock()
        # `_opening` may be held by a thread that does not exist here: it is not taken, a new one is made.
        if self._buffer is not None:
            self._buffer.abandon()
        self.journal.forget()
        self.active.begin_generation()
        self._begin_lines()
        self.worker = Worker(self)

    def _initial_defaults(self) -> ResourceDefaults:
        """Return what is known at once: the host, the owner. The git repository is read in the background."""
        columns = {"host": host_name()}
        if self.config.agent_owner:
            columns["agent_owner"] = self.config.agent_owner
        return ResourceDefaults.of(self.config, columns)

    def detect_environment(self) -> None:
        """Read the git repository that the process works in. Blocks on a few small files."""
        with importing():
            from otel_agent_telemetry.git import HeadCommit, read_git_context

        folder = Path.cwd()
        self._head = HeadCommit(folder)
        # Read in the background only: `.git` may be on a slow network disk.
        self.first_commit = self.commit = self._head.read()
        git = read_git_context(folder)
        if git is not None:
            known = {name: text for name, text in (("git_repo", git.repo), ("git_branch", git.branch)) if text}
            defaults = self.resource_defaults
            self.resource_defaults = defaults._replace(columns={**defaults.columns, **known})

    def _watch_exit(self) -> None:
        """Have the open runs ended and delivered when the interpreter exits; registered by the first record."""
        if not self._watches_exit:
            self._watches_exit = True
            atexit.register(weak_callback(self.at_exit))

    def tick(self) -> None:
        """Once a second in the background: sync, a sign of life, counters, files taken away from us."""
        if self.config.fsync == "interval":
            self.sync()
        self.run_periodic_tasks(_PERIODIC_TASK_TIMEOUT_S)
        if self._head is not None:
            self.commit = self._head.read()
        buffer = self._buffer
        if buffer is None:
            return
        try:
            buffer.touch()
            buffer.note(self.counters.as_dict())
        except OSError as problem:
            self.counters.failed("sign of life", problem)
        if buffer.lost():
            # The next record opens a new writer; what the old files held, the journal has too.
            self._buffer, self._writer = None, None
            self.counters.warn("buffer", "%s was taken away; beginning a new segment", buffer.folder)

    def run_periodic_tasks(self, timeout_s: float) -> None:
        """Run the tasks of other writers of files for these runs, which finish what they put off. Never raises."""
        for task in self.periodic_tasks:
            try:
                task(timeout_s)
            except Exception as problem:  # one task's failure spares the others
                self.counters.internal("periodic task", problem)

    def monotonic(self) -> float:
        """Return seconds that no clock change moves."""
        return time.monotonic()

    def now_iso(self) -> str:
        """Return the present as ISO text."""
        return iso_utc(self.clock.now_ns())

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything written so far has reached its target; False when time ran out.

        Blocks up to `timeout_s`. False too when something could not be buffered.
        """
        forks.notice()
        try:
            done = self.worker.flush(list(self._writer_ids), timeout_s=timeout_s)
        except OSError as problem:
            self.counters.failed("flush", problem)
            return False
        return done and self.counters.buffer_failed == 0

    def close(self, timeout_s: float | None = None) -> None:
        """Deliver what can be delivered in time (default: the exit timeout) and stop the background.

        What is left waits in the buffer for the next deliverer. Idempotent; a record that
        comes later is kept all the same and begins anew.
        """
        forks.notice()
        self.sync()
        self.worker.stop(timeout_s=self.config.exit_timeout_s if timeout_s is None else timeout_s)
        self.leave()

    def leave(self) -> None:
        """Give this process's segments up for delivery: nothing more is written to them. Idempotent.

        Not while a run of this process is open: it would be taken for a dead process's, and closed.
        """
        if next(self.active.mine(), None) is None:
            self._leave_files()

    def at_exit(self) -> None:
        """End what is open and deliver what can be delivered, because the interpreter ends. Never raises."""
        try:
            forks.notice()
            for hook in self.before_exit:
                try:
                    hook()
                except Exception as problem:  # one hook's failure spares the others
                    self.counters.internal("exit", problem)
            # A quarter of the time, so that the delivery, which matters more, has most of it.
            self.run_periodic_tasks(self.config.exit_timeout_s / 4)
            self.close()
        except Exception as problem:  # the outer edge of interpreter exit
            self.counters.internal("exit", problem)
