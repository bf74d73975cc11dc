"""Records of turns that no program has sent, and what became of them in a database, which is then as it was."""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy import text
from storage_cases import at, at_ns

from otel_agent_telemetry.model import RunSpan
from otel_agent_telemetry.run_id import turn_event_id
from otel_agent_telemetry.storage.store import WriteBatch, write_batch
from otel_agent_telemetry.turns import TurnRecord
from otel_agent_telemetry.usage import LAST_CALL, last_call

SILENCE_S = 600
CALL = {"model_calls": 1, "input_tokens": 10, "output_tokens": 1}


def record(number, role, at_s, *, session="s", prompt="", names_turn=False, usage=None, **more):
    """A record of a session; `names_turn`: its agent gives every prompt an id of its own (Claude Code)."""
    identity = f"{number:015x}".ljust(32, "0")  # the first digits are the number of its event
    own = turn_event_id(session, prompt) if names_turn and prompt and role != "nothing" else ""
    if role == "begins" and not own:
        own = turn_event_id(session, identity)
    time_ns = at_ns(at_s)
    ids = {
        "event_id": "",
        "run_id": "",
        "trace_id": session,
        "span_id": identity[:16],
        "parent_span_id": None,
    }
    is_call = role in ("model_call", "model_error", "tool_call")
    step = RunSpan(**ids, name=f"step {number}", start_time=at(at_s), end_time=at(at_s)) if is_call else None
    base = {"agent_name": "coder", "job_type": "prompt", "session_id": session, "service_name": "coder"}
    return TurnRecord(
        identity=identity,
        stretch=session,
        prompt=prompt,
        own_turn=own,
        role=role,
        name=f"{role} {number}",
        time_ns=time_ns,
        silent_ns=time_ns + SILENCE_S * 10**9,
        usage=usage or {},
        payload={"n": number},
        step=step,
        base=base,
        **more,
    )


def prompt(number, at_s, **more):
    return record(number, "begins", at_s, **more)


def call(number, at_s, *, failure=None, **more):
    usage = {**CALL, LAST_CALL: last_call(ended_at=f"{at_s:09.3f}", failure=failure)}
    return record(number, "model_call" if failure is None else "model_error", at_s, usage=usage, **more)


class _Undone(Exception):
    """Ends a transaction that must not stay."""


def after(database, batches, read, *, now_s=10_000):
    """What `read` returns of the database when it has got the batches, which are taken back: a file costs more."""
    found = []
    with suppress(_Undone), database.writing() as connection:
        for batch in batches:
            write_batch(connection, batch, received_at=at(now_s))
        found.append(read(connection))
        raise _Undone
    return found[0]


def logged(*records):
    return WriteBatch(turn_records=records)


def everything(connection):
    """All rows of runs and their events, without what says when something was stored."""
    runs = connection.execute(text("SELECT * FROM agent_runs")).mappings()
    events = connection.execute(text("SELECT event_id, run_id, event_type, timestamp, payload_json FROM run_events"))
    steps = connection.execute(text("SELECT event_id, run_id, name, start_time, usage_json FROM run_spans"))
    # What once had sums and has none any more keeps an empty row.
    sums = connection.execute(text("SELECT event_id, usage_json FROM run_rollups WHERE metrics_json IS NOT NULL"))
    return (
        sorted(sorted((name, str(value)) for name, value in run.items() if name != "id") for run in runs),
        sorted(map(tuple, events)),
        sorted(map(tuple, sums)),
        sorted(map(tuple, steps)),
    )
