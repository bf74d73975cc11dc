"""Spans in any order, partition and repetition find the same runs and add up to the same."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from itertools import permutations
from operator import itemgetter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from storage_cases import at, event_id
from trace_cases import TRACE, deliver, ident, names_of, run, run_id_of, run_of, step, usage_of, using

from otel_agent_telemetry.storage.queries import children_of, get_run, list_runs
from otel_agent_telemetry.storage.rollups import Rollup, rollups_of
from otel_agent_telemetry.storage.run_filters import RunQuery
from otel_agent_telemetry.storage.steps import events_of, spans_of
from otel_agent_telemetry.storage.store import WriteBatch, merged_batch
from otel_agent_telemetry.storage.tables import agent_runs, run_events, run_rollups, run_spans
from otel_agent_telemetry.usage import added


def test_a_step_after_its_run_belongs_to_it(database):
    """The usual live order: the run is known, its steps come later."""
    deliver(database, run(1), step(2, 1, count=2), step(3, 2, tokens=7))
    assert names_of(database, 1) == ["span 2", "span 3"]
    assert usage_of(database, 1) == {"input_tokens": 7, "steps": 2}
    with database.reading() as connection:
        assert [(event.event_type, event.run_id) for event in events_of(connection, ident(1))] == [
            ("e0", "run-1"),
            ("e1", "run-1"),
        ]


def test_steps_before_their_run_find_it_when_it_arrives(database):
    """Batch exporters send children first: grandchild, child, run."""
    deliver(database, step(3, 2, tokens=7, count=1), step(2, 1))
    assert names_of(database, 1) == []
    assert usage_of(database, 1) == {}
    deliver(database, run(1))
    assert names_of(database, 1) == ["span 2", "span 3"]
    assert usage_of(database, 1) == {"input_tokens": 7, "steps": 2}
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
    """A run's own numbers go before what its spans add up to."""
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


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_a_model_call_inside_a_model_call_is_one_call(database, order):
    """Two instrumentations of one call, with a span between them, in any order and each in its own request."""
    outer = {"steps": 1, "model_calls": 1, "input_tokens": 7, "models": ["alias"]}
    inner = {"steps": 1, "model_calls": 1, "input_tokens": 7, "output_tokens": 2, "models": ["m-2026"]}
    batches = [run(1), using(2, 1, outer), step(3, 2), using(4, 3, inner)]
    deliver(database, *(batches[index] for index in order), *batches)
    wanted = {"steps": 3, "model_calls": 1, "input_tokens": 7, "output_tokens": 2, "models": ["m-2026"]}
    assert usage_of(database, 1) == wanted


def test_a_wrapper_counts_where_the_calls_inside_it_report_no_tokens(database):
    """Two calls, whose tokens only the span around them knows; one more beside them."""
    call = {"steps": 1, "model_calls": 1}
    deliver(database, using(3, 2, call), using(4, 2, call), run(1), using(5, 1, {**call, "input_tokens": 1}))
    deliver(database, using(2, 1, {**call, "input_tokens": 10}))
    assert usage_of(database, 1) == {"steps": 4, "model_calls": 3, "input_tokens": 11}


def test_a_call_of_a_run_inside_a_call_is_the_inner_runs(database):
    """What is inside another run is that run's, whatever is around the run."""
    call = {"steps": 1, "model_calls": 1, "input_tokens": 5}
    deliver(database, using(4, 3, call), run(3, 2), using(2, 1, call), run(1))
    assert usage_of(database, 1) == usage_of(database, 3) == call


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


def test_a_run_that_names_itself_as_its_parent_has_none(database):
    """Alone, or through a step of its own."""
    deliver(database, run(1, 1), run(2, 3), step(3, 2))
    with database.reading() as connection:
        assert [get_run(connection, event_id=ident(number)).parent_run_id for number in (1, 2)] == [None, None]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_run_with_an_id_of_its_own_has_no_steps(database, order):
    """Whichever comes first: the run that its span is may come still, and has them then."""
    own = WriteBatch((run_of(1, event_id=event_id(1), run_id="own"),))
    batches = [own, step(2, 1, tokens=5)]
    deliver(database, *(batches[index] for index in order))
    assert database.rows("SELECT event_id FROM run_spans") == [("",)]
    deliver(database, merged_batch([WriteBatch((run_of(1),)), own]))
    assert usage_of(database, 1) == {"input_tokens": 5, "steps": 1}


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_a_step_that_turns_out_to_be_a_run_has_the_spans_that_come_after(database, order):
    """So it has them in every order, also where they had found another run before."""
    batches = [run(1), step(2, 1), WriteBatch((run_of(2),)), step(3, 2, tokens=5)]
    deliver(database, *(batches[index] for index in order))
    assert names_of(database, 2) == ["span 3"]
    assert names_of(database, 1) == ["span 2"]
    assert usage_of(database, 1) == {"steps": 1}
    assert usage_of(database, 2) == {"input_tokens": 5, "steps": 1}


def test_a_later_state_that_names_the_span_finds_the_steps(database):
    """The first one did not know its trace."""
    first = replace(run_of(1), trace_id=None, span_id=None, status="running", updated_at=at(0))
    deliver(database, step(2, 1, tokens=5), WriteBatch((first,)))
    assert names_of(database, 1) == []
    deliver(database, WriteBatch((run_of(1),)))
    assert names_of(database, 1) == ["span 2"]
    assert usage_of(database, 1) == {"input_tokens": 5, "steps": 1}


TURN_S = 100


def turns_of_a_seeded_loop(turns):
    """What each turn of a loop sends that seeds `random`: a run, a step, and a step below it, with the same ids."""
    for turn in range(turns):
        start = turn * TURN_S
        yield run(1, start=start + 1)
        yield step(2, 1, count=1, start=start + 2)
        yield step(3, 2, tokens=10, count=1, start=start + 3)


@pytest.mark.parametrize("seed", range(6))
def test_repeated_ids_of_several_runs_do_not_mix(database, seed):
    """Each step, its events and its tokens belong to the run in whose time it began, in any order."""
    batches = [*turns_of_a_seeded_loop(3)]
    random.Random(seed).shuffle(batches)
    deliver(database, *batches, *batches[:2])
    for turn in range(3):
        start = turn * TURN_S + 1
        assert names_of(database, 1, start) == ["span 2", "span 3"]
        assert usage_of(database, 1, start) == {"input_tokens": 10, "steps": 2}
        with database.reading() as connection:
            own = ident(1, start=start)
            assert [event.span_id[-1] for event in events_of(connection, own)] == ["2", "3"]
            assert {event.run_id for event in events_of(connection, own)} == {get_run(connection, event_id=own).run_id}


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_a_sender_that_sends_the_parent_along_is_believed(database, order):
    """Of two processes with the same ids at the same time, each keeps its steps."""
    batches = [
        merged_batch([step(2, 1, start=12, parent_start=10), run(1, start=10)]),
        merged_batch([step(2, 1, start=13, parent_start=11), run(1, start=11)]),
        step(3, 2, start=14, parent_start=12),
        step(3, 2, start=15, parent_start=13),
    ]
    deliver(database, *(batches[index] for index in order))
    for start in (10, 11):
        with database.reading() as connection:
            found = spans_of(connection, ident(1, start=start))
        assert [one.start_time for one in found] == [at(start + 2), at(start + 4)]


def test_a_run_inside_repeated_runs_names_the_one_in_whose_time_it_began(database):
    """Also when that one comes last."""
    deliver(database, run(1, start=1), run(2, 1, start=52), run(1, start=51))
    with database.reading() as connection:
        assert get_run(connection, event_id=ident(2, start=52)).parent_run_id == "run-1-at-51"


@some.composite
def forests(draw):
    """Spans with parents, some of them runs, in two traces; and the order, partition and repetition of their arrival.

    Either parents name each other in circles, or some spans have the ids of another one and another start.
    """
    size, ids_repeat = draw(some.integers(1, 12)), draw(some.booleans())
    spans = []
    for number in range(1, size + 1):
        others = [one for one in range(1, number if ids_repeat else size + 1) if one != number]
        parent = draw(some.sampled_from([None, *others]))
        trace = draw(some.sampled_from([TRACE, TRACE[::-1]]))
        starts = draw(some.sampled_from([(number,), (number, number + 20), (number + 3, number + 7)]))
        for start in starts if ids_repeat else (number,):
            is_run = parent is None or draw(some.booleans())
            spans.append((number, parent, trace, is_run, start))
    order = draw(some.permutations(spans))
    again = draw(some.lists(some.sampled_from(spans), max_size=4))
    cuts = draw(some.lists(some.booleans(), min_size=len(order) + len(again), max_size=len(order) + len(again)))
    return spans, order + again, cuts


def parent_of(spans, span):
    """The last of the spans with the parent's ids that had begun, else the first."""
    _, parent, trace, _, start = span
    known = sorted((one for one in spans if (one[2], one[0]) == (trace, parent)), key=itemgetter(4))
    earlier = [one for one in known if one[4] <= start]
    return earlier[-1] if earlier else known[0] if known else None


def expected_of(spans):
    """Run → its steps, its tokens and the run around it, by walking up in plain Python."""
    steps, around, inside, top = defaultdict(set), {}, defaultdict(list), defaultdict(list)
    for span in spans:
        parent = above = parent_of(spans, span)
        seen = set()
        while above is not None and above not in seen and not above[3]:
            seen.add(above)
            above = parent_of(spans, above)
        if above is None or above in seen:
            continue
        steps[above].add((span[0], span[4]))
        if span[3]:
            around |= {span: above} if above != span else {}
        elif parent == above:
            top[above].append(span)
        else:
            inside[parent].append(span)
    return steps, {span: used_inside(inside, top[span]) for span in spans}, around


def used_inside(inside, steps):
    """The tokens of these steps and all inside them, those of the innermost that have any."""
    return sum(used_inside(inside, inside[step]) or tokens_of(step[0]) for step in steps)


def tokens_of(number):
    """Some steps are model calls, some use nothing."""
    return number if number % 3 else 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(forest=forests(), seed=some.integers(0, 10))
def test_any_order_partition_and_repetition_ends_the_same(database, forest, seed):
    """Invariant 2 for spans, with ids that repeat."""
    with database.writing() as connection:
        for table in (agent_runs, run_spans, run_events, run_rollups):
            connection.execute(table.delete())
    spans, arrivals, cuts = forest
    groups, group = [], []
    for (number, parent, trace, is_run, start), cut in zip(arrivals, cuts, strict=True):
        more = {"trace": trace, "start": start}
        group.append(run(number, parent, **more) if is_run else step(number, parent, tokens=tokens_of(number), **more))
        if cut:
            groups, group = [*groups, merged_batch(group)], []
    random.Random(seed).shuffle(groups)
    deliver(database, *groups, merged_batch(group))
    steps, tokens, around = expected_of(spans)
    with database.reading() as connection:
        for span in (one for one in spans if one[3]):
            number, _, trace, _, start = span
            found = get_run(connection, event_id=ident(number, trace, start))
            stored = {(int(one.span_id, 16), one.start_time) for one in spans_of(connection, found.event_id)}
            assert stored == {(step_number, at(step_start)) for step_number, step_start in steps[span]}
            assert found.parent_run_id == (run_id_of(around[span][0], around[span][4]) if span in around else None)
            rollup = rollups_of(connection, [found.event_id]).get(found.event_id, Rollup())
            assert rollup.steps.get("input_tokens", 0) == tokens[span]


def test_usages_add_up_by_sum_and_by_union():
    """Words are kept once, in order, a hundred at most."""
    assert added([{"a": 1, "models": ["x"]}, {"a": 2, "b": 1, "models": ["y", "x"]}]) == {
        "a": 3,
        "b": 1,
        "models": ["x", "y"],
    }
    many = added([{"models": [f"m{n:03}"]} for n in range(150)])
    assert len(many["models"]) == 100


def still_open(batch):
    """The same span before its end: with nothing used yet but the step."""
    (node,) = batch.nodes
    return replace(
        batch, nodes=(replace(node, span=replace(node.span, status="running", end_time=None), usage={"steps": 1}),)
    )


@pytest.mark.parametrize(
    "arriving",
    [
        lambda root, outer, inner: (root, still_open(outer), inner, outer),
        lambda root, outer, inner: (still_open(outer), outer, inner, root),
        lambda root, outer, inner: (merged_batch([still_open(outer), outer]), root, inner),
        lambda root, outer, inner: (root, outer, still_open(outer), inner),
        lambda root, outer, inner: (inner, still_open(outer), root, outer, outer),
    ],
)
def test_a_step_that_came_without_its_end_is_replaced_when_it_ends(database, arriving):
    """Once, with what it used; what is below it stays below it."""
    deliver(database, *arriving(run(1), using(2, 1, {"steps": 1, "tool_calls": 1}), step(3, 2, tokens=7)))
    with database.reading() as connection:
        stored = {span.name: span.status for span in spans_of(connection, ident(1))}
    assert stored == {"span 2": "ok", "span 3": "ok"}
    assert usage_of(database, 1) == {"input_tokens": 7, "steps": 2, "tool_calls": 1}


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 3, 0, 1), (1, 3, 2, 0)])
def test_tokens_below_a_span_that_names_the_model_are_a_call_of_it(database, order):
    """Whichever of them arrives first."""
    tokens = {"input_tokens": 7, "by_model": {"": {"model_calls": 1, "input_tokens": 7}}}
    batches = [run(1), using(2, 1, {"steps": 1, "model_inside": "m"}), step(3, 2), using(4, 3, {"steps": 1, **tokens})]
    deliver(database, *(batches[place] for place in order))
    assert usage_of(database, 1) == {
        "by_model": {"m": {"input_tokens": 7, "model_calls": 1}},
        "input_tokens": 7,
        "model_calls": 1,
        "models": ["m"],
        "steps": 3,
    }
