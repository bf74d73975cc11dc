"""Spans in any order, partition and repetition find the same runs and add up to the same."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from storage_cases import at

from otel_agent_telemetry.event_id import span_event_id
from otel_agent_telemetry.model import RunEvent, RunRecord, RunSpan
from otel_agent_telemetry.storage.batch import WriteBatch, merged_batch, write_batch
from otel_agent_telemetry.storage.queries import RunQuery, children_of, get_run, list_runs
from otel_agent_telemetry.storage.rollups import Rollup, added, rollups_of
from otel_agent_telemetry.storage.steps import events_of, spans_of
from otel_agent_telemetry.storage.tables import agent_runs, run_events, run_rollups, run_spans
from otel_agent_telemetry.storage.traces import SpanNode

TRACE = "0af7651916cd43dd8448eb211c80319c"


def span(number, parent, *, trace=TRACE, **more):
    parent_id = None if parent is None else f"{parent:016x}"
    ids = {"event_id": "", "run_id": "", "trace_id": trace, "span_id": f"{number:016x}", "parent_span_id": parent_id}
    return RunSpan(**ids, name=f"span {number}", start_time=at(number), end_time=at(number + 1), status="ok", **more)


def events(number, count, *, trace=TRACE):
    ids = {"event_id": "", "run_id": "", "trace_id": trace, "span_id": f"{number:016x}"}
    return tuple(RunEvent(**ids, event_type=f"e{n}", timestamp=at(number)) for n in range(count))


def step(number, parent, *, tokens=0, count=0, trace=TRACE):
    usage = {"steps": 1, "input_tokens": tokens} if tokens else {"steps": 1}
    node = SpanNode(span(number, parent, trace=trace), usage=usage, events=events(number, count, trace=trace))
    return WriteBatch(nodes=(node,))


def run_of(number, *, trace=TRACE, **more):
    span_id = f"{number:016x}"
    times = {"created_at": at(number), "updated_at": at(number + 1), "start_time": at(number)}
    names = {"run_id": f"run-{number}", "agent_name": "agent", "job_type": "job", "status": "success"}
    ids = {"event_id": span_event_id(trace, span_id), "trace_id": trace, "span_id": span_id}
    return RunRecord(**{**ids, **times, **names, **more})


def run(number, parent=None, *, own=0, trace=TRACE, **more):
    """A run's span and its state, as one request brings them."""
    node = SpanNode(span(number, parent, trace=trace), is_run=True, usage={"input_tokens": own} if own else {})
    return WriteBatch((run_of(number, trace=trace, **more),), nodes=(node,))


def ident(number, trace=TRACE):
    return span_event_id(trace, f"{number:016x}")


def deliver(database, *batches):
    for batch in batches:
        with database.writing() as connection:
            write_batch(connection, batch)


def names_of(database, number):
    with database.reading() as connection:
        return [found.name for found in spans_of(connection, ident(number))]


def usage_of(database, number):
    with database.reading() as connection:
        return rollups_of(connection, [ident(number)]).get(ident(number), Rollup()).shown()


def test_a_step_after_its_run_belongs_to_it(database):
    """The usual live order: the run is known, its steps come later."""
    deliver(database, run(1), step(2, 1, tokens=5, count=2), step(3, 2, tokens=7))
    assert names_of(database, 1) == ["span 2", "span 3"]
    assert usage_of(database, 1) == {"input_tokens": 12, "steps": 2}
    with database.reading() as connection:
        assert [(event.event_type, event.run_id) for event in events_of(connection, ident(1))] == [
            ("e0", "run-1"),
            ("e1", "run-1"),
        ]


def test_steps_before_their_run_find_it_when_it_arrives(database):
    """Batch exporters send children first: grandchild, child, run."""
    deliver(database, step(3, 2, tokens=7, count=1), step(2, 1, tokens=5))
    assert names_of(database, 1) == []
    assert usage_of(database, 1) == {}
    deliver(database, run(1))
    assert names_of(database, 1) == ["span 2", "span 3"]
    assert usage_of(database, 1) == {"input_tokens": 12, "steps": 2}
    with database.reading() as connection:
        assert [event.run_id for event in events_of(connection, ident(1))] == ["run-1"]


def test_a_run_that_came_by_the_other_way_adopts_the_steps_that_wait(database):
    """Its state over the runs endpoint, its children over OTLP."""
    deliver(database, step(2, 1, tokens=5), WriteBatch((run_of(1, status="running"),)), step(3, 1, tokens=1))
    assert usage_of(database, 1) == {"input_tokens": 6, "steps": 2}


def test_a_missing_link_leaves_only_what_hangs_below_it_waiting(database):
    """A lost span in the middle costs its subtree its place, until it comes."""
    deliver(database, run(1), step(2, 1), step(4, 3), step(5, 4))
    assert names_of(database, 1) == ["span 2"]
    deliver(database, step(3, 2))
    assert names_of(database, 1) == ["span 2", "span 3", "span 4", "span 5"]


def test_a_run_inside_a_run_keeps_its_own_steps_and_names_its_parent(database):
    """Tokens are counted once: in the run whose step used them."""
    deliver(database, step(4, 3, tokens=9), run(3, 2), step(2, 1, tokens=1), run(1))
    assert usage_of(database, 1) == {"input_tokens": 1, "steps": 1}
    assert usage_of(database, 3) == {"input_tokens": 9, "steps": 1}
    with database.reading() as connection:
        inner = get_run(connection, event_id=ident(3))
        assert inner.parent_run_id == "run-1"
        assert [child.run_id for child in children_of(connection, "run-1")] == ["run-3"]
        assert [found.run_id for found in list_runs(connection, RunQuery(parent_run_id="run-1"))] == ["run-3"]


def test_a_parent_that_the_run_named_itself_stays(database):
    """What a run says counts before what its spans show."""
    deliver(database, run(1), run(3, 1, parent_run_id="another"))
    with database.reading() as connection:
        assert get_run(connection, event_id=ident(3)).parent_run_id == "another"
        assert children_of(connection, "run-1") == []


@pytest.mark.parametrize(
    ("metrics", "shown"),
    [
        (None, '{"gen_ai":{"input_tokens":5,"steps":1}}'),
        ('{"score":1}', '{"score":1,"gen_ai":{"input_tokens":5,"steps":1}}'),
        ('{"gen_ai":{"input_tokens":99}}', '{"gen_ai":{"input_tokens":99,"steps":1}}'),
        ("[1]", "[1]"),
        ("not JSON", "not JSON"),
    ],
)
def test_what_steps_add_up_to_shows_in_the_metrics_unless_the_run_says_it_itself(database, metrics, shown):
    """The run's own words are never replaced, whatever they are."""
    deliver(database, run(1, metrics_json=metrics), step(2, 1, tokens=5))
    with database.reading() as connection:
        assert get_run(connection, event_id=ident(1)).metrics_json == shown


def test_totals_on_the_run_itself_stand_in_only_where_no_step_tells(database):
    """Frameworks repeat the sum on the root: never both."""
    deliver(database, run(1, own=50), step(2, 1))
    assert usage_of(database, 1) == {"input_tokens": 50, "steps": 1}
    deliver(database, step(3, 1, tokens=5))
    assert usage_of(database, 1) == {"input_tokens": 5, "steps": 2}


def test_spans_that_name_each_other_as_parents_end(database):
    """A circle has no run, and takes no time."""
    circle = [step(2, 3), step(3, 4), step(4, 2), step(5, 5)]
    deliver(database, merged_batch(circle), *circle, run(1))
    assert names_of(database, 1) == []


def test_a_chain_of_thousands_in_one_request_finds_its_run(database):
    """Deeper than any recursion goes, both downwards and upwards."""
    chain = [step(number, number - 1) for number in range(2, 3000)]
    deliver(database, merged_batch(chain[:1500][::-1]), merged_batch(chain[1500:]), run(1))
    assert len(names_of(database, 1)) == len(chain)


def test_the_same_span_id_in_another_trace_is_another_span(database):
    """Ids are 64 bits and anybody's."""
    other = TRACE[::-1]
    deliver(database, step(2, 1, tokens=1, count=1), step(2, 1, tokens=2, count=1, trace=other), run(1, trace=other))
    assert names_of(database, 1) == []
    assert usage_of(database, 1) == {}
    with database.reading() as connection:
        assert rollups_of(connection, [ident(1, other)])[ident(1, other)].steps == {"input_tokens": 2, "steps": 1}


@some.composite
def forests(draw):
    """Spans with parents, some of them runs, in two traces; and the order, partition and repetition of their arrival."""
    size = draw(some.integers(1, 12))
    spans = []
    for number in range(1, size + 1):
        parent = draw(some.one_of(some.none(), some.integers(1, size).filter(lambda one, me=number: one != me)))
        trace = draw(some.sampled_from([TRACE, TRACE[::-1]]))
        spans.append((number, parent, trace, parent is None or draw(some.booleans())))
    order = draw(some.permutations(spans))
    again = draw(some.lists(some.sampled_from(spans), max_size=4))
    cuts = draw(some.lists(some.booleans(), min_size=len(order) + len(again), max_size=len(order) + len(again)))
    return spans, order + again, cuts


def expected_of(spans):
    """Run → its steps, its tokens and the run around it, by walking up in plain Python."""
    known = {(trace, number): (parent, is_run) for number, parent, trace, is_run in spans}
    steps, tokens, around = defaultdict(set), defaultdict(int), {}
    for (trace, number), (parent, is_run) in known.items():
        at_key, seen = (trace, parent), set()
        while at_key in known and at_key not in seen and not known[at_key][1]:
            seen.add(at_key)
            at_key = (trace, known[at_key][0])
        if at_key not in known or at_key in seen:
            continue
        steps[at_key].add(number)
        if is_run:
            around[trace, number] = at_key
        else:
            tokens[at_key] += number
    return steps, tokens, around


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(forest=forests(), seed=some.integers(0, 10))
def test_any_order_partition_and_repetition_ends_the_same(database, forest, seed):
    """Invariant 2 for spans."""
    with database.writing() as connection:
        for table in (agent_runs, run_spans, run_events, run_rollups):
            connection.execute(table.delete())
    spans, arrivals, cuts = forest
    groups, group = [], []
    for (number, parent, trace, is_run), cut in zip(arrivals, cuts, strict=True):
        group.append(run(number, parent, trace=trace) if is_run else step(number, parent, tokens=number, trace=trace))
        if cut:
            groups, group = [*groups, merged_batch(group)], []
    random.Random(seed).shuffle(groups)
    deliver(database, *groups, merged_batch(group))
    steps, tokens, around = expected_of(spans)
    with database.reading() as connection:
        for number, _, trace, is_run in spans:
            if not is_run:
                continue
            key = (trace, number)
            found = get_run(connection, event_id=ident(number, trace))
            assert {int(one.span_id, 16) for one in spans_of(connection, found.event_id)} == steps[key]
            assert found.parent_run_id == (f"run-{around[key][1]}" if key in around else None)
            rollup = rollups_of(connection, [found.event_id]).get(found.event_id, Rollup())
            assert rollup.steps.get("input_tokens", 0) == tokens[key]


def test_usages_add_up_by_sum_and_by_union():
    """Words are kept once, in order, a hundred at most."""
    assert added([{"a": 1, "models": ["x"]}, {"a": 2, "b": 1, "models": ["y", "x"]}]) == {
        "a": 3,
        "b": 1,
        "models": ["x", "y"],
    }
    many = added([{"models": [f"m{n:03}"]} for n in range(150)])
    assert len(many["models"]) == 100
