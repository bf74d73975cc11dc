"""Runs whose sender leaves their status to the last model call: the row says it, in any order of arrival."""

from __future__ import annotations

from itertools import permutations

import pytest
from storage_cases import at, at_ns
from trace_cases import deliver, ident, run_of, span, using

from otel_agent_telemetry.storage.queries import get_run
from otel_agent_telemetry.storage.store import WriteBatch
from otel_agent_telemetry.storage.traces import SpanNode
from otel_agent_telemetry.usage import LAST_CALL, LAST_CALL_DECIDES, last_call


def call(number, failure=None):
    usage = {"steps": 1, "model_calls": 1, LAST_CALL: last_call(ended_at=at(number), failure=failure)}
    return of_sender(using(number, 1, usage))


def of_sender(batch):
    """The batch, its spans being of a sender that leaves the status to the last call."""
    for node in batch.nodes:
        node.last_call_decides = True
    return batch


def root(own=None):
    usage = {LAST_CALL_DECIDES: 1} if own is None else own
    node = SpanNode(span(1, None), is_run=True, usage=usage, start_ns=at_ns(1))
    return of_sender(WriteBatch((run_of(1),), nodes=(node,)))


def ending_of(database):
    with database.reading() as connection:
        run = get_run(connection, event_id=ident(1))
    return run.status, run.error_summary


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_run_whose_last_call_failed_has_failed(database, order):
    """Whichever of its spans comes first; a call that failed before one that did not decides nothing."""
    batches = [root(), call(2), call(3, "quota exceeded")]
    deliver(database, *(batches[place] for place in order))
    assert ending_of(database) == ("failed", "quota exceeded")
    deliver(database, call(4))
    assert ending_of(database) == ("success", None)
    deliver(database, root(), call(3, "quota exceeded"))
    assert ending_of(database) == ("success", None)


def test_other_runs_keep_the_status_of_their_root(database):
    """A root that says how it ended, or a sender without the rule: `had_errors` tells of the call."""
    deliver(database, root(own={}), call(3, "quota exceeded"))
    assert ending_of(database) == ("success", None)
