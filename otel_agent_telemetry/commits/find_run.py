"""Find the run that a commit was made in, by what its hook saw and what the store knows.

In this order; the first that names a run decides, and of several candidates none is taken:

    1 TELEMETRY_RUN_ID             of `agent-telemetry run`
    2 BAGGAGE, TRACEPARENT, or a session's variable that an agent gives its commands
    3 runs open in processes that work in, above or below the work tree; `hook.sh` has looked
    4 the one open run of a coding agent on this host
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from otel_agent_telemetry.buffer.identity import host_name
from otel_agent_telemetry.commits.agent_variables import AGENT_VARIABLES, CODING_AGENTS, AgentVariable
from otel_agent_telemetry.config import TelemetryConfig
from otel_agent_telemetry.model import RunRecord
from otel_agent_telemetry.patterns import lazy
from otel_agent_telemetry.status import RUNNING
from otel_agent_telemetry.storage.run_filters import RunQuery

_MAX_RUNS: Final = 100
_MAX_NAMED: Final = 3
_TRACE: Final = "TRACEPARENT"
_SIGN: Final = lazy(r"[0-9A-Za-z._:@+-]{1,200}")


class Runs(Protocol):
    """Where runs are read: a `RunReader`."""

    def runs(self, query: RunQuery) -> list[RunRecord] | None:
        """Return the runs that a query asks for, newest first; None when there is no database yet."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The run of a commit, or None, and why in one sentence.

    `is_early`: the run that was named has not reached the store yet; it may a little later.
    """

    run_id: str | None
    why: str
    is_early: bool = False


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a commit was made in: the environment, the runs open where it was made, and when."""

    variables: Mapping[str, str]
    open_runs: Sequence[str]
    committed_at: str
    """In our form of time."""
    is_past: bool = False
    """Whether the commit was made a while ago: what is open now need not have been open then."""

    @property
    def signs(self) -> str:
        """Return what an agent named, as text of one line: `NAME=VALUE …`; "" where it named nothing."""
        named = {
            name: self.variables.get(name, "") for name in (_TRACE, *(one.name for one in _present(self.variables)))
        }
        return " ".join(f"{name}={value}" for name, value in named.items() if _SIGN.fullmatch(value))

    @classmethod
    def of_signs(cls, signs: str, committed_at: str) -> Circumstances:
        """Return the circumstances of a commit that was made a while ago."""
        pairs = (word.partition("=") for word in signs.split())
        return cls({name: value for name, _, value in pairs}, (), committed_at, is_past=True)


def find_run(config: TelemetryConfig, circumstances: Circumstances, store: Runs) -> Finding:
    """Return the run of a commit. Blocks for a few queries at most. Raises StorageError, OSError as the store does."""
    if config.command_run_id is not None:
        return Finding(config.command_run_id, "TELEMETRY_RUN_ID named the run when it was made")
    if config.parent_run_id is not None:
        return Finding(config.parent_run_id, "BAGGAGE named the run when it was made")
    # A trace may be of whoever started the agent, and no run's: then its session counts.
    named = [
        found
        for found in (_by_trace(config.trace_parent, store), _by_session(circumstances, store))
        if found is not None
    ]
    for found in named:
        if not found.is_early:
            return found
    nearby = _only(
        circumstances.open_runs, "a process that works in this directory had it open", "open in this directory"
    )
    if nearby is not None:
        return nearby
    # A session that the store does not know yet is not the one that it knows: no other run is guessed.
    return named[-1] if named else _by_agent(circumstances, store)


def _only(run_ids: Sequence[str], why: str, what: str) -> Finding | None:
    """Return the finding of the only candidate, of several that there are several, and None without any."""
    if not run_ids:
        return None
    if len(run_ids) == 1:
        return Finding(run_ids[0], why)
    more = ", …" if len(run_ids) > _MAX_NAMED else ""
    return Finding(None, f"{len(run_ids)} runs were {what}: {', '.join(run_ids[:_MAX_NAMED])}{more}")


def _by_trace(trace_parent: str | None, store: Runs) -> Finding | None:
    """Return the outermost run of the trace that the commit was made in; None without a trace."""
    if trace_parent is None:
        return None
    trace_id = trace_parent.split("-")[1]
    found = store.runs(RunQuery(trace_id=trace_id, limit=_MAX_RUNS, priced=False)) or []
    ids = {run.run_id for run in found}
    outermost = [run.run_id for run in found if run.parent_run_id not in ids]
    why = f"TRACEPARENT named its trace {trace_id}"
    return _only(outermost, why, f"of the trace {trace_id}") or Finding(
        None, f"{why}, of which the store has no run", is_early=True
    )


def _by_session(circumstances: Circumstances, store: Runs) -> Finding | None:
    """Return the last run that a session began before the commit; None where no session is named."""
    for variable in _present(circumstances.variables):
        if not variable.is_session:
            continue
        session = circumstances.variables[variable.name].strip()
        found = store.runs(RunQuery(session_id=session, limit=_MAX_RUNS, priced=False)) or []
        begun = [run for run in found if run.created_at <= circumstances.committed_at]
        why = f"{variable.name} named its session {session}"
        last = max(begun, key=lambda run: run.created_at, default=None)
        # Some agents send a turn when it ends: the one before it is not the one that the commit was made in.
        if last is None or (last.end_time is not None and last.end_time < circumstances.committed_at):
            return Finding(None, f"{why}, of which the store has no run of that time", is_early=True)
        return Finding(last.run_id, why)
    return None


def _by_agent(circumstances: Circumstances, store: Runs) -> Finding:
    """Return the one open run of a coding agent on this host."""
    present = [variable for variable in _present(circumstances.variables) if not variable.is_session]
    agents = present[0].agents if present else CODING_AGENTS
    begun = RunQuery(start_time_to=circumstances.committed_at, limit=_MAX_RUNS, priced=False)
    queries = (
        [replace(begun, agent_name=one) for one in agents]
        if circumstances.is_past
        else [replace(begun, status=RUNNING)]
    )
    found = [run for query in queries for run in store.runs(query) or [] if run.agent_name in agents]
    then = [run for run in found if run.end_time is None or run.end_time >= circumstances.committed_at]
    here = [run.run_id for run in then if run.host in (None, "", host_name())]
    why = "it was the one open run of a coding agent on this host"
    return _only(here, why, "open of coding agents on this host") or Finding(
        None, f"no open run of {' or '.join(agents)} is known on this host", is_early=bool(present)
    )


def _present(environ: Mapping[str, str]) -> list[AgentVariable]:
    """Return the variables of agents that the commit was made with."""
    return [variable for variable in AGENT_VARIABLES if environ.get(variable.name, "").strip()]
